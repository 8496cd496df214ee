import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { describe, expect, onTestFinished, test } from 'vitest'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { openStream } from '../support/stream.ts'

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const PARENT_ID = 'b7ad6b7169203331'

interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  attributes: { key: string; value: Record<string, unknown> }[]
  links?: { traceId: string; spanId: string }[]
}

interface OtlpTraces {
  resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[]
}

/** A collector that takes OTLP over HTTP with JSON, and its spans. */
async function startCollector(): Promise<{ environment: Record<string, string>; spans: OtlpSpan[] }> {
  const spans: OtlpSpan[] = []
  const server = createServer(async (request, response) => {
    const { resourceSpans } = (await json(request)) as OtlpTraces
    spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)))
    response.setHeader('content-type', 'application/json').end('{}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    spans,
    environment: {
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_BSP_SCHEDULE_DELAY: '50',
    },
  }
}

describe.runIf(hasMosquitto)('with the variables of OpenTelemetry', () => {
  test('a publish is a span below its request, and its event links to it', async () => {
    const { spans, environment } = await startCollector()
    const bridge = spawnBridge({ MQTT_URL: (await startMosquitto()).url }, { environment })
    const url = await bridge.url
    const stream = await openStream(`${url}/subscribe?topic=a/%2B`)
    const answer = await fetch(`${url}/publish?topic=a/b`, {
      method: 'POST',
      body: 'x',
      headers: { traceparent: `00-${TRACE_ID}-${PARENT_ID}-01` },
    })
    expect(answer.status).toBe(200)
    const event = await stream.next()
    const named = (name: string) => spans.filter((span) => span.name === name)
    await expect.poll(() => [named('POST /publish'), named('publish'), named('receive')].flat()).toHaveLength(3)

    const [request, publish, receive] = ['POST /publish', 'publish', 'receive'].map((name) => named(name)[0]!)
    expect(request).toMatchObject({ traceId: TRACE_ID, parentSpanId: PARENT_ID })
    expect(publish).toMatchObject({ traceId: TRACE_ID, parentSpanId: request!.spanId })
    expect(publish!.attributes).toContainEqual({ key: 'messaging.mqtt.reason_code', value: { intValue: 0 } })
    // Whoever reads the stream continues the trace from the publish.
    expect(event.data.properties.userProperties).toEqual({ traceparent: `00-${TRACE_ID}-${publish!.spanId}-01` })
    expect(receive!.traceId).not.toBe(TRACE_ID)
    expect(receive!.links).toMatchObject([{ traceId: TRACE_ID, spanId: publish!.spanId }])
    const text = await (await fetch(`${url}/metrics`, { headers: { accept: 'application/openmetrics-text' } })).text()
    expect(text).toMatch(new RegExp(`publish_ack_seconds_bucket\\S+ \\d+ # {trace_id="${TRACE_ID}"}`))

    const second = await fetch(`${url}/publish?topic=a/b&qos=1&retain=true`, { method: 'POST', body: 'x' })
    expect(second.status).toBe(200)
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    // The last spans are exported before the end, the stream's as well.
    expect(named('POST /publish')).toHaveLength(2)
    expect(named('GET /subscribe')).toHaveLength(1)
  })
})

test('without them, or where they say so, nothing is recorded', async () => {
  const { spans, environment } = await startCollector()
  const bridge = spawnBridge({}, { environment: { ...environment, OTEL_SDK_DISABLED: 'true' } })
  const url = await bridge.url
  expect((await fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'x' })).status).toBe(200)
  bridge.kill('SIGTERM')
  await bridge.exited
  expect(bridge.stdout()).not.toContain('OpenTelemetry')
  expect(spans).toEqual([])
})
