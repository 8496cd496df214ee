import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createMetrics, type Metrics } from '../src/metrics.ts'

const hasPromtool = spawnSync('promtool', ['--version']).status === 0

/** Metrics with a sample in each family. */
function busy(): Metrics {
  const metrics = createMetrics('1.2.3-"test"\n\\')
  for (const outcome of [
    'acknowledged',
    'no_subscribers',
    'sent',
    'rejected',
    'timeout',
    'unavailable',
    'overloaded',
  ]) {
    metrics.published(1, outcome, 10, 0.002)
  }
  metrics.published(2, 'acknowledged', 5, 20)
  metrics.published(0, 'sent', 1, 0)
  metrics.rejected('not-authorized')
  metrics.received(0, 100)
  metrics.reconnected('publish')
  metrics.answered('POST', '/publish', 200, 0.01)
  metrics.streams.opened('sse')
  metrics.streams.wrote(2, 200)
  metrics.streams.gap('overtaken', 3)
  metrics.streams.closed('sse', 'client')
  metrics.streams.resumed('continued')
  return metrics
}

const samplesOf = (text: string) =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
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
  expect(samples.get('causeway_stream_dropped_events_total{reason="overtaken"}')).toBe(3)
  expect(samples.get('causeway_streams_open{format="sse"}')).toBe(0)
})

test('gauges are asked on scrape, and forget what is gone', async () => {
  const metrics = createMetrics('1')
  let connections = [
    { role: 'publish', state: 'connected' },
    { role: 'publish', state: 'connected' },
  ]
  metrics.setGauges({
    links: () => 4,
    publishInFlight: () => 7,
    requestsWaiting: () => 0,
    subscriptionFilters: () => 3,
    sessionsOpen: () => 2,
    sessionUnacknowledged: () => 5,
    heldBytes: () => ({ logs: 9 }),
    connections: () => connections,
  } as Parameters<Metrics['setGauges']>[0])
  const first = samplesOf(await metrics.text.metrics())
  expect([
    first.get('causeway_publish_in_flight'),
    first.get('causeway_subscription_filters'),
    first.get('causeway_mqtt_connections{role="publish",state="connected"}'),
    first.get('causeway_sessions_open'),
    first.get('causeway_session_unacknowledged'),
    first.get('causeway_links'),
  ]).toEqual([7, 3, 2, 2, 5, 4])
  connections = [{ role: 'publish', state: 'disconnected' }]
  const second = samplesOf(await metrics.openMetrics.metrics())
  expect([...second].filter(([series]) => series.startsWith('causeway_mqtt_connections'))).toEqual([
    ['causeway_mqtt_connections{role="publish",state="disconnected"}', 1],
  ])
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
  const stamped = (await busy().openMetrics.metrics()).replace(/^([^#\n].*)$/gm, '$1 1700000000')
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
