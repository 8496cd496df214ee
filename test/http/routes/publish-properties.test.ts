import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish, publishRaw } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { openStream } from '../../support/stream.ts'

describe.runIf(hasMosquitto)('message properties over MQTT 5', () => {
  async function following() {
    const { url } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: url })
    return { bridge, messages: await collect(await mqttClient(url, { protocolVersion: 5 }), 'a') }
  }

  test('all of them arrive', async () => {
    const { bridge, messages } = await following()
    const properties = {
      contentType: 'text/plain; charset=utf-8',
      responseTopic: 'answers/1',
      correlationData: Buffer.from([0, 1, 255]).toString('base64'),
      messageExpiryInterval: 4_294_967_295,
      payloadFormatIndicator: true,
      userProperties: { traceparent: '00-1-2-00', tag: ['a', 'b'], 'ü €': '', constructor: 'x' },
    }
    expect(await publish(bridge, { topic: 'a', payload: 'ü', properties })).toMatchObject({ status: 200 })
    const { properties: arrived } = await messages.next()
    expect({ ...arrived, userProperties: { ...arrived!.userProperties } }).toMatchObject({
      ...properties,
      correlationData: Buffer.from([0, 1, 255]),
      messageExpiryInterval: expect.any(Number),
    })
  })

  test.each([
    ['an expiry of nothing is not left out', { messageExpiryInterval: 60, payloadFormatIndicator: false }],
    [
      'the largest there may be',
      {
        correlationData: Buffer.alloc(65_535, 1).toString('base64'),
        contentType: 'x'.repeat(65_535),
        responseTopic: 'r'.repeat(65_535),
      },
    ],
    ['none', {}],
    ['no user properties', { userProperties: {} }],
    ['a user property without values', { userProperties: { a: [] } }],
    ['a user property without a name', { userProperties: { '': 'x' } }],
  ])('those at the edges cost nobody the connection: %s', async (_name, properties) => {
    const { bridge, messages } = await following()
    expect(await publish(bridge, { topic: 'a', properties })).toMatchObject({ status: 200 })
    await messages.next()
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test('names that are special in JavaScript are names like any other', async () => {
    const { bridge, messages } = await following()
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&encoding=json`)
    const text =
      '' +
      '' +
      '' +
      '{"topic":"a","payload":{"__proto__":{"x":1},"constructor":{"prototype":{"x":1}}},"encoding":"json","qos":1,"retain":false,"properties":{"userProperties":{"__proto__":"p","constructor":["prototype","x"]}}}'
    const post = (path: string, body: string) =>
      fetch(bridge.url + path, { method: 'POST', body, headers: { 'content-type': 'application/json' } })
    expect(
      await Promise.all(
        [post('/publish', text), post('/publish/batch', `[${text}]`)].map(async (answer) => (await answer).status),
      ),
    ).toEqual([200, 200])
    for (const event of await stream.take(2)) expect(JSON.stringify(event.data)).toBe(text)
    const { payload, properties } = await messages.next()
    expect(payload.toString()).toBe('{"__proto__":{"x":1},"constructor":{"prototype":{"x":1}}}')
    expect(JSON.stringify(properties?.userProperties)).toBe('{"__proto__":"p","constructor":["prototype","x"]}')
    expect(({} as { x?: unknown }).x).toBeUndefined()
  })

  test('a payload that is not the UTF-8 it is said to be is refused before it is sent', async () => {
    const { bridge } = await following()
    const message = { topic: 'a', payload: '/w==', encoding: 'base64', properties: { payloadFormatIndicator: true } }
    expect(await publish(bridge, message)).toMatchObject({ status: 422, body: { code: 'payload-format-invalid' } })
  })

  test('the content type of a raw payload is its Content-Type header', async () => {
    const { bridge, messages } = await following()
    await publishRaw(bridge, 'topic=a', '{}', { 'content-type': 'application/json; charset=utf-8' })
    expect((await messages.next()).properties?.contentType).toBe('application/json; charset=utf-8')
  })
})
