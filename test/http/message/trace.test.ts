import { describe, expect, test } from 'vitest'
import { BROKERS, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publishRaw } from '../../support/http.ts'
import { startResponder } from '../../support/responder.ts'
import { openStream } from '../../support/stream.ts'

const trace = {
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  tracestate: 'vendor=value,other=1',
}

const json = (url: string, message: object, headers = {}) =>
  fetch(`${url}/publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(message),
  })

describe.runIf(hasMosquitto)('over MQTT 5', () => {
  test('trace headers travel as user properties and come out in events', async () => {
    const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url })
    const stream = await openStream(`${bridge.url}/subscribe?topic=t`)
    await publishRaw(bridge, 'topic=t', 'raw', trace)
    await json(
      bridge.url,
      { topic: 't', payload: 'json', properties: { userProperties: { a: 'b' } } },
      { traceparent: trace.traceparent },
    )
    await json(
      bridge.url,
      { topic: 't', payload: 'own', properties: { userProperties: { traceparent: 'own' } } },
      trace,
    )
    await json(bridge.url, { topic: 't', payload: 'none' })
    const events = await stream.take(4)
    expect(events.map(({ data }) => data.properties?.userProperties)).toEqual([
      trace,
      { traceparent: trace.traceparent, a: 'b' },
      { traceparent: 'own', tracestate: trace.tracestate },
      undefined,
    ])
  })

  test('trace headers travel with a request too', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    await startResponder(broker.url, 'q', (_payload, reply, packet) =>
      reply(JSON.stringify(packet.properties!.userProperties)),
    )
    const response = await fetch(`${bridge.url}/request?topic=q`, { method: 'POST', headers: trace })
    expect(await response.json()).toEqual(trace)
  })
})

test.each(BROKERS.filter(({ protocol }) => protocol === 4))(
  'on $name trace headers are left out, and the message is published',
  async ({ start }) => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=t`)
    expect((await publishRaw(bridge, 'topic=t', 'raw', trace)).status).toBe(200)
    const [event] = await stream.take(1)
    expect(event!.data).toMatchObject({ topic: 't', payload: 'raw' })
    expect(event!.data).not.toHaveProperty('properties')
    const asked = await json(bridge.url, { topic: 't', properties: { userProperties: { a: 'b' } } })
    expect(asked.status).toBe(422)
    expect(await asked.json()).toMatchObject({
      code: 'properties-not-supported',
      detail: expect.stringContaining('userProperties'),
    })
  },
)
