import { once } from 'node:events'
import { request } from 'node:http'
import { describe, expect, test } from 'vitest'
import { type Bridge, BROKERS, brokerUrl, startBridge } from '../../support/bridge.ts'
import { publishRaw } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'

/** A POST with exactly these headers: `fetch` adds a content type to any text. */
async function post(bridge: Bridge, path: string, headers: Record<string, string>, body: string): Promise<number> {
  const posting = request(bridge.url + path, { method: 'POST', headers, agent: false }).end(body)
  const [response] = await once(posting, 'response')
  response.resume()
  return response.statusCode
}

describe.each(BROKERS)('a payload as it is, on $name', ({ start, protocol }) => {
  async function following(filter: string) {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings), { protocolVersion: protocol })
    return { bridge, messages: await collect(client, filter), url: brokerUrl(bridge, settings) }
  }

  test.each([
    ['binary', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
    ['line ends and NUL', Buffer.from('\r\n\n\r\0data: x\r\n\r\n')],
    ['nothing', Buffer.alloc(0)],
    ['a message in JSON', Buffer.from('{"topic":"other"}')],
    ['a whole megabyte', Buffer.alloc(1_048_576, 0xa5)],
  ])('the body arrives byte for byte: %s', async (_name, bytes) => {
    const { bridge, messages } = await following('raw')
    expect(await publishRaw(bridge, 'topic=raw', bytes, { 'content-type': 'application/json' })).toMatchObject({
      status: 200,
    })
    expect((await messages.next()).payload).toEqual(bytes)
  })

  test('a byte more than the limit is refused, and nothing arrives', async () => {
    const { bridge, messages } = await following('raw')
    const { status, body } = await publishRaw(bridge, 'topic=raw', Buffer.alloc(1_048_577))
    expect(status).toBe(413)
    expect(body).toMatchObject({ status: 413, code: 'payload-too-large', retryable: false })
    await publishRaw(bridge, 'topic=raw', 'behind')
    expect((await messages.next()).payload.toString()).toBe('behind')
  })

  test.each([0, 1, 2] as const)('QoS %i and retain come from the query', async (qos) => {
    const { bridge, messages, url } = await following('home/temp')
    const { status, body } = await publishRaw(bridge, `topic=home/temp&qos=${qos}&retain=true`, '21.5')
    expect(status).toBe(qos === 0 ? 202 : 200)
    expect(body).toMatchObject({ topic: 'home/temp', qos })
    expect(await messages.next()).toMatchObject({ payload: Buffer.from('21.5'), qos })
    const late = await collect(await mqttClient(url), 'home/temp')
    expect(await late.next()).toMatchObject({ payload: Buffer.from('21.5'), qos, retain: true })
  })

  test('a percent-encoded topic is decoded', async () => {
    const { bridge, messages } = await following('häuser/#')
    expect(await publishRaw(bridge, 'topic=h%C3%A4user%2Fk%C3%BCche%20%26', 'x')).toMatchObject({ status: 200 })
    expect((await messages.next()).topic).toBe('häuser/küche &')
  })

  test('curl’s form type is taken as no type', async () => {
    const { bridge, messages } = await following('raw')
    expect(
      await publishRaw(bridge, 'topic=raw', '21.5', { 'content-type': 'application/x-www-form-urlencoded' }),
    ).toMatchObject({ status: 200 })
    const { payload, properties } = await messages.next()
    expect(payload.toString()).toBe('21.5')
    expect(properties?.contentType).toBeUndefined()
  })

  test.each<[string, Record<string, string>]>([
    ['no type', {}],
    ['a type that is none', { 'content-type': 'foo' }],
    ['a type of its own', { 'content-type': 'application/cbor; x=y' }],
  ])('with %s the body is still the payload', async (_name, headers) => {
    const { bridge, messages } = await following('raw')
    expect(await post(bridge, '/publish?topic=raw', { ...headers, 'content-length': '3' }, 'abc')).toBe(200)
    const { payload, properties } = await messages.next()
    expect(payload.toString()).toBe('abc')
    expect(properties?.contentType).toBe(protocol === 5 ? headers['content-type'] : undefined)
  })

  test('an expiry travels over MQTT 5 and is refused over 3.1.1', async () => {
    const { bridge, messages } = await following('raw')
    const { status, body } = await publishRaw(bridge, 'topic=raw&expiry=60', 'x', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect(status).toBe(protocol === 5 ? 200 : 422)
    if (protocol === 5) expect((await messages.next()).properties?.messageExpiryInterval).toBe(60)
    else {
      expect(body).toMatchObject({
        code: 'properties-not-supported',
        detail: expect.stringContaining('messageExpiryInterval'),
      })
    }
  })
})
