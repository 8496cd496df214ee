import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'

describe.each(BROKERS)('a message as JSON, on $name', ({ start, protocol }) => {
  async function bridgeAndClient() {
    const settings = await start()
    const bridge = await startBridge(settings)
    return { bridge, client: await mqttClient(brokerUrl(bridge, settings)) }
  }

  test.each([0, 1, 2] as const)('QoS %i answers with what the broker said and reaches a subscriber', async (qos) => {
    const { bridge, client } = await bridgeAndClient()
    const messages = await collect(client, 'home/#')
    const { status, headers, body } = await publish(bridge, { topic: 'home/temp', payload: '21.5', qos })
    const acknowledged = protocol === 5 && qos > 0
    expect(status).toBe(qos === 0 ? 202 : 200)
    expect(headers.get('content-type')).toMatch('application/json')
    expect(body).toEqual({
      topic: 'home/temp',
      qos,
      reasonCode: acknowledged ? 0 : null,
      reason: acknowledged ? 'Success' : null,
      // Unknown: this broker has not yet said of any message that nobody subscribes.
      matchedSubscribers: null,
    })
    expect(await messages.next()).toMatchObject({
      topic: 'home/temp',
      payload: Buffer.from('21.5'),
      qos,
      retain: false,
    })
  })

  test('QoS 1 without subscribers says so where the broker does', async () => {
    const { bridge } = await bridgeAndClient()
    const { status, body } = await publish(bridge, { topic: 'nobody/listens', payload: 'x' })
    expect(status).toBe(200)
    expect(body).toEqual({
      topic: 'nobody/listens',
      qos: 1,
      reasonCode: protocol === 5 ? 16 : null,
      reason: protocol === 5 ? 'No matching subscribers' : null,
      matchedSubscribers: protocol === 5 ? false : null,
    })
  })

  test('without a payload or QoS it is an empty message at QoS 1', async () => {
    const { bridge, client } = await bridgeAndClient()
    const messages = await collect(client, 'a')
    expect((await publish(bridge, { topic: 'a' })).body).toMatchObject({ qos: 1 })
    expect(await messages.next()).toMatchObject({ payload: Buffer.alloc(0), qos: 1, retain: false })
  })

  test('retain keeps the message for those who come later', async () => {
    const { bridge, client } = await bridgeAndClient()
    await publish(bridge, { topic: 'kept', payload: 'on', retain: true })
    const messages = await collect(client, 'kept')
    expect(await messages.next()).toMatchObject({ payload: Buffer.from('on'), retain: true })
  })

  test.each([
    ['text', { payload: 'a\r\nb\0ü€𝄞' }, Buffer.from('a\r\nb\0ü€𝄞')],
    ['text that looks like JSON', { payload: '{"a": 1}' }, Buffer.from('{"a": 1}')],
    ['text, said to be utf8', { payload: 'x', encoding: 'utf8' }, Buffer.from('x')],
    [
      'base64',
      { payload: Buffer.from([0, 13, 10, 0xff, 0xfe]).toString('base64'), encoding: 'base64' },
      Buffer.from([0, 13, 10, 0xff, 0xfe]),
    ],
    [
      'base64 as long as a body may be',
      { payload: Buffer.alloc(786_000, 7).toString('base64'), encoding: 'base64' },
      Buffer.alloc(786_000, 7),
    ],
    ['empty base64', { payload: '', encoding: 'base64' }, Buffer.alloc(0)],
    ['an object', { payload: { celsius: 21.5, list: [1, null] } }, Buffer.from('{"celsius":21.5,"list":[1,null]}')],
    ['a number', { payload: 21.5 }, Buffer.from('21.5')],
    ['false', { payload: false }, Buffer.from('false')],
    ['null', { payload: null }, Buffer.from('null')],
    ['a string, said to be JSON', { payload: 'x', encoding: 'json' }, Buffer.from('"x"')],
    ['no payload, said to be JSON', { encoding: 'json' }, Buffer.from('""')],
  ])('the payload arrives byte for byte: %s', async (_name, message, bytes) => {
    const { bridge, client } = await bridgeAndClient()
    const messages = await collect(client, 'bytes')
    expect(await publish(bridge, { topic: 'bytes', ...message })).toMatchObject({ status: 200 })
    expect((await messages.next()).payload).toEqual(bytes)
  })

  test('a topic of any letters and as many levels as allowed is taken', async () => {
    const { bridge, client } = await bridgeAndClient()
    const messages = await collect(client, '#')
    const topics = [
      'häuser/küche/🌡',
      '/leading',
      'trailing/',
      'a//b',
      ' ',
      '%41&=?',
      Array.from({ length: 100 }, () => 'l').join('/'),
    ]
    for (const topic of topics) expect(await publish(bridge, { topic })).toMatchObject({ status: 200 })
    for (const topic of topics) expect((await messages.next()).topic).toBe(topic)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test('what a stream says of a message can be posted back', async () => {
    const { bridge } = await bridgeAndClient()
    const event = { topic: 'back', payload: '/w==', encoding: 'base64', qos: 1, retain: false, redelivered: true }
    expect(await publish(bridge, event)).toMatchObject({ status: 200 })
  })

  test('properties are refused by name where MQTT 5 is not spoken', async () => {
    const { bridge } = await bridgeAndClient()
    const { status, body } = await publish(bridge, {
      topic: 'a',
      properties: { contentType: 'text/plain', messageExpiryInterval: 5 },
    })
    expect(status).toBe(protocol === 5 ? 200 : 422)
    if (protocol === 5) return
    expect(body.code).toBe('properties-not-supported')
    expect(body.detail).toContain('contentType, messageExpiryInterval')
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })
})
