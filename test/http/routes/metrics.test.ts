import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

const hasPromtool = spawnSync('promtool', ['--version']).error === undefined
const OPENMETRICS = 'application/openmetrics-text; version=1.0.0'

/** promtool reads only the text format. OpenMetrics leaves `_total` out of a counter's family name. */
function asText(openMetrics: string): string {
  const counters = new Set([...openMetrics.matchAll(/^# TYPE (\S+) counter$/gm)].map(([, name]) => name))
  return openMetrics.replace(/^# (TYPE|HELP) (\S+)/gm, (line, _word, name) =>
    counters.has(name) ? `${line}_total` : line,
  )
}

describe.each(BROKERS)('the metrics of streams on $name', ({ start }) => {
  test('agree with what happened', async () => {
    const settings = await start()
    const bridge = await startBridge({ ...settings, STREAM_LINGER_MS: 60_000 })
    const client = await mqttClient(brokerUrl(bridge, settings))
    const value = (series: string) => metric(bridge, `causeway_${series}`)
    expect([
      await value('streams_open{format="sse"}'),
      await value('stream_events_total'),
      await value('subscription_filters'),
    ]).toEqual([0, 0, 0])

    const first = await openStream(`${bridge.url}/subscribe?topic=a`)
    const second = await openStream(`${bridge.url}/subscribe?topic=a&topic=b`)
    expect([await value('streams_open{format="sse"}'), await value('subscription_filters')]).toEqual([2, 2])
    for (const [topic, payload, qos] of [
      ['a', 'four', 1],
      ['a', '', 0],
      ['b', 'é', 1],
    ] as const) {
      await client.publishAsync(topic, payload, { qos })
    }
    await first.take(2)
    const last = (await second.take(3)).at(-1)!
    expect([
      await value('received_messages_total{qos="0"}'),
      await value('received_messages_total{qos="1"}'),
      await value('received_bytes_total'),
    ]).toEqual([1, 2, 6])
    // Five messages, and the status that each stream begins with.
    expect(await value('stream_events_total')).toBe(7)
    expect(await value('http_requests_total{method="GET",route="/subscribe",status_code="200"}')).toBe(2)

    first.close()
    await expectStreams(bridge, 1)
    expect([await value('stream_closed_total{reason="client"}'), await value('subscription_filters')]).toEqual([1, 2])
    second.close()
    await expectStreams(bridge, 0)
    await openStream(`${bridge.url}/subscribe?topic=a&topic=b`, { 'last-event-id': last.id! })
    await (await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': 'other-1' })).next()
    expect([
      await value('stream_resumes_total{result="resumed"}'),
      await value('stream_resumes_total{result="unknown-id"}'),
    ]).toEqual([1, 1])
    expect([
      await value('stream_gaps_total{reason="unknown-id"}'),
      await value('stream_dropped_events_total{reason="unknown-id"}'),
    ]).toEqual([1, 0])
    expect(await value('mqtt_connections{role="subscribe",state="connected"}')).toBe(1)
  })

  test('count the bytes that were written', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    const before = await metric(bridge, 'causeway_stream_bytes_total')
    await client.publishAsync('a', 'é'.repeat(1000), { qos: 1 })
    await stream.next()
    const event = /\n\n(id: [^\n]+\ndata: [^\n]+\n\n)/.exec(stream.text())![1]!
    expect((await metric(bridge, 'causeway_stream_bytes_total')) - before).toBe(Buffer.byteLength(event))
  })

  test('count a gap for each reader that was told of it', async () => {
    const settings = await start()
    const bridge = await startBridge({ ...settings, STREAM_LOG_BYTES: 1024 })
    const client = await mqttClient(brokerUrl(bridge, settings))
    const streams = await Promise.all([1, 2, 3].map(() => openStream(`${bridge.url}/subscribe?topic=a`)))
    await client.publishAsync('a', 'x'.repeat(2000), { qos: 1 })
    for (const stream of streams) {
      expect(await stream.next()).toMatchObject({ event: 'gap', data: { reason: 'message-too-large', dropped: 1 } })
    }
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="message-too-large"}')).toBe(3)
    const dropped = 'causeway_stream_dropped_events_total{reason="message-too-large"}'
    expect(await metric(bridge, dropped)).toBe(3)
  })

  test('hold no topic and no client', async () => {
    const bridge = await startBridge({ ...(await start()), MQTT_CLIENT_ID: 'secret-client' })
    await openStream(`${bridge.url}/subscribe?topic=secret/topic`)
    expect((await get(bridge, '/metrics')).body).not.toMatch(/secret/)
  })
})

test.runIf(hasMosquitto)('a gap over a lost session is counted for each reader too', async () => {
  const broker = await startMosquitto()
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const streams = await Promise.all(
    ['a', 'a', 'a&encoding=json', 'b'].map((query) => openStream(`${bridge.url}/subscribe?topic=${query}`)),
  )
  await broker.kill()
  await broker.start()
  for (const stream of streams) {
    expect((await stream.take(3)).map(({ event }) => event)).toEqual(['status', 'gap', 'status'])
  }
  expect(await metric(bridge, 'causeway_stream_gaps_total{reason="broker-session-lost"}')).toBe(4)
})

describe('GET /metrics', () => {
  test.each([
    ['nothing', undefined],
    ['anything', '*/*'],
    ['text', 'text/plain'],
  ])('is Prometheus text for a client that accepts %s', async (_case, accept) => {
    const bridge = await startBridge()
    const { status, headers, body } = await get(bridge, '/metrics', accept === undefined ? {} : { accept })
    expect([status, headers.get('content-type')]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8'])
    expect(body).not.toContain('# EOF')
    expect(body).toContain('# TYPE causeway_stream_events_total counter')
  })

  test('is OpenMetrics for a client that accepts that, as Prometheus does', async () => {
    const bridge = await startBridge()
    const { status, headers, body } = await get(bridge, '/metrics', {
      accept: `${OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1`,
    })
    expect([status, headers.get('content-type')]).toEqual([
      200,
      'application/openmetrics-text; version=1.0.0; charset=utf-8',
    ])
    expect(body).toMatch(/\n# EOF\n$/)
    expect(body).toContain('# TYPE causeway_stream_events counter')
  })

  test.each([
    ['*/*', 'text/plain'],
    ['APPLICATION/OpenMetrics-Text', 'application/openmetrics-text'],
    ['application/openmetrics-text;q=0', 'text/plain'],
    ['application/openmetrics-text;q=0.2,text/plain;q=0.9', 'text/plain'],
    // What Prometheus sends.
    [
      'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.3,' +
        'text/plain;version=0.0.4;q=0.4,*/*;q=0.2',
      'application/openmetrics-text',
    ],
  ])('is what Accept: %s prefers', async (accept, type) => {
    const bridge = await startBridge()
    expect((await get(bridge, '/metrics', { accept })).headers.get('content-type')).toMatch(new RegExp(`^${type}`))
  })

  test('has the same series in both', async () => {
    const bridge = await startBridge()
    await (await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': 'x' })).next()
    const seriesOf = (text: string) =>
      text
        .split('\n')
        .filter((line) => line.startsWith('causeway_') && !line.includes('http_request'))
        .map((line) => line.replace(/ \S+$/, ''))
        .sort()
    const text = seriesOf((await get(bridge, '/metrics')).body)
    expect(seriesOf((await get(bridge, '/metrics', { accept: OPENMETRICS })).body)).toEqual(text)
    expect(text).toContain('causeway_stream_gaps_total{reason="unknown-id"}')
  })

  test.runIf(hasPromtool).each(['text/plain', OPENMETRICS])('passes promtool as %s', async (accept) => {
    const bridge = await startBridge()
    await (await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': 'x' })).next()
    const { body } = await get(bridge, '/metrics', { accept })
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: accept === OPENMETRICS ? asText(body) : body,
      encoding: 'utf8',
    })
    const complaints = `${stdout}${stderr}`
      .split('\n')
      .filter((line) => line.startsWith('causeway_') || line.includes('error'))
    expect([status === 1, complaints]).toEqual([false, []])
  })

  test('begins each route at 0, with the statuses that it documents', async () => {
    const bridge = await startBridge()
    const value = (labels: string) => metric(bridge, `causeway_http_requests_total{${labels}}`)
    expect(await value('method="POST",route="/publish",status_code="503"')).toBe(0)
    expect(await value('method="GET",route="/subscribe",status_code="200"')).toBe(0)
    expect(await value('method="GET",route="none",status_code="404"')).toBe(0)
    await get(bridge, '/nowhere/at/all')
    expect(await value('method="GET",route="none",status_code="404"')).toBe(1)
    const { body } = await get(bridge, '/metrics')
    expect(body).not.toContain('nowhere')
    // Few enough to be scraped every few seconds.
    expect(body.length).toBeLessThan(300_000)
  })

  test('has the trace of a publish beside the bucket of its time', async () => {
    const bridge = await startBridge()
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await fetch(`${bridge.url}/publish?topic=a`, { method: 'POST', body: 'x', headers: { traceparent } })
    const { body } = await get(bridge, '/metrics', { accept: OPENMETRICS })
    const exemplars = body
      .split('\n')
      .filter((line: string) => line.includes('# {trace_id="0af7651916cd43dd8448eb211c80319c"}'))
    expect(exemplars.map((line: string) => line.replace(/_bucket.*/, ''))).toEqual([
      'causeway_publish_ack_seconds',
      'causeway_http_request_duration_seconds',
    ])
  })
})
