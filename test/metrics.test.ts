import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createMetrics, type Gauges, type Metrics } from '../src/metrics.ts'
import { sampledTraceId } from '../src/trace-context.ts'
import { PUBLISH_OUTCOMES } from '../src/mqtt/publish/publisher.ts'

const hasPromtool = spawnSync('promtool', ['--version']).status === 0

/** Metrics with a sample in each family. */
function busy(): Metrics {
  const metrics = createMetrics('1.2.3-"test"\n\\')
  for (const outcome of PUBLISH_OUTCOMES) metrics.published(1, outcome, 10, 0.002, TRACE_ID)
  metrics.published(2, 'acknowledged', 5, 20)
  metrics.published(0, 'sent', 1, 0)
  metrics.rejected('not-authorized')
  metrics.received(0, 100)
  metrics.reconnected('publish')
  metrics.answered({ method: 'POST', route: '/publish', status: 200, seconds: 0.01, traceId: TRACE_ID })
  metrics.streams.opened('sse')
  metrics.streams.wrote(2, 200)
  metrics.streams.gap('overrun', 3)
  metrics.streams.closed('sse', 'client')
  metrics.streams.resumed('resumed')
  return metrics
}

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const samplesOf = (text: string) =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      // An exemplar comes behind the sample.
      .map((line) => line.replace(/ # \{.*$/, ''))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
const countersOf = (text: string) =>
  new Map([...samplesOf(text)].filter(([series]) => /^causeway_\w+_(total|count|sum|bucket)/.test(series)))

test('counts add up, and only what the broker has or QoS 0 sent adds bytes', async () => {
  const samples = samplesOf(await busy().text.metrics())
  expect(samples.get('causeway_publish_messages_total{qos="1",outcome="timeout"}')).toBe(1)
  expect(samples.get('causeway_publish_bytes_total')).toBe(10 + 10 + 10 + 5 + 1)
  expect(samples.get('causeway_publish_ack_seconds_count{qos="1"}')).toBe(2)
  expect(samples.get('causeway_publish_ack_seconds_bucket{le="10",qos="2"}')).toBe(0)
  expect(samples.get('causeway_publish_ack_seconds_bucket{le="+Inf",qos="2"}')).toBe(1)
  expect(samples.get('causeway_stream_dropped_events_total{reason="overrun"}')).toBe(3)
  expect(samples.get('causeway_streams_open{format="sse"}')).toBe(0)
})

test('gauges are asked on each scrape, and a row that is 0 stays', async () => {
  const metrics = createMetrics('1')
  let connections = [
    { role: 'publish', state: 'connected' },
    { role: 'publish', state: 'connected' },
  ]
  const level = (value: number, limit: number) => ({ value: () => value, limit: () => limit })
  metrics.setGauges({
    links: level(4, 100),
    publishInFlight: level(7, 2000),
    publishWaiting: () => 6,
    publishOldestSeconds: () => 1.5,
    requestsWaiting: level(0, 1000),
    httpConnections: { value: async () => 12, limit: () => 20_000 },
    streamsLimit: () => 10_000,
    streamLags: () => [0.1, 0.75, 0.5],
    subscriptionFilters: () => 3,
    sessionsOpen: level(2, 50),
    sessionUnacknowledged: () => 5,
    heldBytes: () => ({ logs: 9 }) as ReturnType<Gauges['heldBytes']>,
    heldBytesLimit: () => 1000,
    isBrokerReachable: () => true,
    replicas: () => 2,
    redis: undefined,
    connections: () => connections,
    negotiated: () => [
      { role: 'publish', protocol: '5', receiveMaximum: 20 },
      { role: 'publish', protocol: '5', receiveMaximum: 10 },
      { role: 'subscribe', protocol: '5', receiveMaximum: 1 },
    ],
    pushes: () => [],
  })
  const first = samplesOf(await metrics.text.metrics())
  const expected = {
    broker_reachable: 1,
    links: 4,
    links_limit: 100,
    publish_in_flight: 7,
    publish_in_flight_limit: 2000,
    publish_waiting: 6,
    publish_oldest_seconds: 1.5,
    http_connections: 12,
    streams_open_limit: 10_000,
    stream_lag_ratio: 0.75,
    streams_behind: 1,
    sessions_open_limit: 50,
    held_bytes_limit: 1000,
    'held_bytes{purpose="logs"}': 9,
    'held_bytes{purpose="bodies"}': 0,
    'mqtt_connections{role="publish",state="connected"}': 2,
    'mqtt_protocol_connections{protocol="5"}': 3,
    'mqtt_protocol_connections{protocol="3.1.1"}': 0,
    mqtt_receive_maximum: 10,
  }
  expect(Object.fromEntries(Object.keys(expected).map((name) => [name, first.get(`causeway_${name}`)]))).toEqual(
    expected,
  )
  connections = [{ role: 'publish', state: 'disconnected' }]
  const second = samplesOf(await metrics.openMetrics.metrics())
  expect(second.get('causeway_mqtt_connections{role="publish",state="disconnected"}')).toBe(1)
  expect(second.get('causeway_mqtt_connections{role="publish",state="connected"}')).toBe(0)
})

test('whatever is counted later has its series at 0 before', async () => {
  const before = samplesOf(await createMetrics('1').text.metrics())
  const missing = [...samplesOf(await busy().text.metrics()).keys()].filter(
    (series) => series.startsWith('causeway_') && !/^causeway_(build_info|http_request)/.test(series),
  )
  expect(missing.length).toBeGreaterThan(100)
  expect(missing.filter((series) => before.get(series) === undefined)).toEqual([])
  for (const series of ['publish_messages_total{qos="2",outcome="timeout"}', 'stream_gaps_total{reason="overrun"}']) {
    expect(before.get(`causeway_${series}`)).toBe(0)
  }
})

test('a value that no label knows is counted as `other`, whatever it is', async () => {
  const metrics = createMetrics('1')
  for (const value of ['a"b', 'x,y', '__proto__']) metrics.authenticated(value)
  const samples = samplesOf(await metrics.text.metrics())
  expect(samples.get('causeway_authentications_total{result="other"}')).toBe(3)
  expect([...samples.keys()].filter((series) => /a"b|x,y|__proto__/.test(series))).toEqual([])
})

test('an observation of a sampled trace is its bucket’s exemplar, in OpenMetrics only', async () => {
  const metrics = busy()
  const lines = (await metrics.openMetrics.metrics()).split('\n').filter((line) => line.includes('trace_id'))
  const exemplar = `# {trace_id="${TRACE_ID}"}`
  expect(lines).toEqual([
    expect.stringContaining(`causeway_publish_ack_seconds_bucket{le="0.0025",qos="1"} 2 ${exemplar} 0.002 `),
    expect.stringContaining(`{le="0.01",method="POST",route="/publish",status_code="200"} 1 ${exemplar} 0.01 `),
  ])
  expect(await metrics.text.metrics()).not.toContain('trace_id')
})

test.each([
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', TRACE_ID],
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00', undefined],
  ['00-00000000000000000000000000000000-b7ad6b7169203331-01', undefined],
  ['00-0af7651916cd43dd8448eb211c80319c"}-b7ad6b7169203331-01', undefined],
  ['', undefined],
  [[TRACE_ID, TRACE_ID], undefined],
  [undefined, undefined],
])('the traceparent %j has the trace id %j', (traceparent, traceId) => {
  expect(sampledTraceId(traceparent)).toBe(traceId)
})

// Regression: an OpenMetrics scrape removed `_total` from the names in the text format for ever.
test('counters only grow, whoever scrapes, in whichever format and at the same time', async () => {
  const metrics = busy()
  let before = countersOf(await metrics.text.metrics())
  for (let round = 1; round <= 20; round += 1) {
    metrics.published(1, 'acknowledged', 1, 0.1)
    metrics.streams.wrote(1, 1)
    const scrapes = await Promise.all([
      metrics.text.metrics(),
      metrics.openMetrics.metrics(),
      metrics.text.metrics(),
      metrics.openMetrics.metrics(),
    ])
    for (const scrape of scrapes) {
      const now = countersOf(scrape)
      expect([...now.keys()].toSorted()).toEqual([...before.keys()].toSorted())
      for (const [series, value] of before) expect(now.get(series), series).toBeGreaterThanOrEqual(value)
      expect(now.get('causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(1 + round)
      expect(now.get('causeway_stream_bytes_total')).toBe(200 + round)
    }
    before = countersOf(scrapes[0])
  }
})

test('every name has the prefix, base units, and `_total` exactly where it is a counter', async () => {
  const families = (await busy().text.getMetricsAsJSON()).filter(({ name }) => !/^(process|nodejs)_/.test(name))
  for (const { name, type } of families) {
    expect(name).toMatch(/^causeway_[a-z_]+$/)
    expect(name).not.toMatch(/_(ms|milliseconds|kb|mb)(_|$)/)
    expect(name.endsWith('_total'), name).toBe(String(type) === 'counter')
  }
  expect(families.length).toBeGreaterThan(15)
})

test('OpenMetrics ends with its mark, once, and names counters without `_total`', async () => {
  const text = await busy().openMetrics.metrics()
  expect(text.split('# EOF')).toHaveLength(2)
  expect(text).toMatch(/\n# EOF\n$/)
  expect(text).toContain('# TYPE causeway_publish_messages counter\n')
  expect(busy().openMetrics.contentType).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
  expect(busy().text.contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
})

test.runIf(hasPromtool)('promtool finds nothing to say about Causeway’s metrics', async () => {
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: await busy().text.metrics(),
    encoding: 'utf8',
  })
  expect((stdout + stderr).split('\n').filter((line) => line !== '' && !/^(process|nodejs)_/.test(line))).toEqual([])
})

test.runIf(hasPromtool)('Prometheus’s own parser takes the OpenMetrics', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-metrics-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  // Only promtool's back-filling command parses OpenMetrics, and it needs a timestamp on each sample.
  const stamped = (await busy().openMetrics.metrics()).replace(/^([^#\n].*?)( # .*)?$/gm, '$1 1700000000$2')
  writeFileSync(join(directory, 'metrics'), stamped)
  const run = (name: string) =>
    spawnSync(
      'promtool',
      ['tsdb', 'create-blocks-from', 'openmetrics', join(directory, name), join(directory, 'blocks')],
      { encoding: 'utf8' },
    )
  expect(run('metrics')).toMatchObject({ status: 0, stderr: '' })
  writeFileSync(join(directory, 'broken'), stamped.replace('# EOF', ''))
  expect(run('broken').status).not.toBe(0)
})
