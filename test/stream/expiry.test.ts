import { describe, expect, test } from 'vitest'
import { Expiry } from '../../src/stream/expiry.ts'
import { Log } from '../../src/stream/log.ts'
import { type Message, toJsonText, withExpiry } from '../../src/mqtt/message.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { startBridge } from '../support/bridge.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectStreams } from '../support/nothing-left.ts'
import { openStream } from '../support/stream.ts'

const NAME = '"messageExpiryInterval":'
const message = (properties: Message['properties'], payload = 'x'): Message => ({
  topic: `t${NAME}1`,
  payload: Buffer.from(payload),
  qos: 1,
  retain: false,
  properties,
})

test.each([
  message({ messageExpiryInterval: 90 }),
  message({ messageExpiryInterval: 90 }, `{${NAME}5}`),
  message({ messageExpiryInterval: 90, contentType: `${NAME}7` }),
  message({ contentType: `${NAME}7`, messageExpiryInterval: 90, userProperties: { messageExpiryInterval: '8' } }),
  message({ messageExpiryInterval: 90, userProperties: { messageExpiryInterval: ['8', `${NAME}9`] } }),
])('the remaining seconds replace those of the message, and nothing that a publisher wrote', (original) => {
  for (const embedJson of [false, true]) {
    const event = `id: e-1\ndata: ${toJsonText(original, embedJson)}\n\n`
    const changed = toJsonText(
      { ...original, properties: { ...original.properties, messageExpiryInterval: 4 } },
      embedJson,
    )
    expect(withExpiry(Buffer.from(event), 4).toString()).toBe(`id: e-1\ndata: ${changed}\n\n`)
  }
})

test('an event without an expiry stays as it is', () => {
  const event = Buffer.from(toJsonText(message({ userProperties: { messageExpiryInterval: '8' } }), false))
  expect(withExpiry(event, 4)).toBe(event)
})

test('a log leaves out what has expired, and counts the others down', () => {
  const log = new Log({ bytes: 1e6, messages: 100 }, 0)
  const seconds = (_event: Buffer, left: number) => Buffer.from(`${left} `)
  const append = (text: string, expiry?: Expiry) =>
    log.append(log.store({ sequence: log.end + 1, bytes: Buffer.from(`${text} `), expiry }))
  append('a')
  append('expired', new Expiry(10, seconds, performance.now() - 10_001))
  append('60', new Expiry(60, seconds))
  append('60', new Expiry(60, seconds, performance.now() - 20_500))
  append('expired', new Expiry(0, seconds, performance.now() - 1))
  expect(log.read(0, 1000)).toMatchObject({ end: 5, events: 3, bytes: Buffer.from('a 60 40 ') })
  expect(log.read(1, 2)).toMatchObject({ end: 3, events: 1, bytes: Buffer.from('60 ') })
  expect(log.read(4, 1000)).toMatchObject({ end: 5, events: 0, bytes: Buffer.from('') })
  expect([log.readOne(1), log.readOne(3)?.toString()]).toEqual([undefined, '40 '])
})

describe.runIf(hasMosquitto)('on Mosquitto', () => {
  test('a reader that comes back does not get a message that expired meanwhile', async () => {
    const { url } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: url, STREAM_LINGER_MS: 60_000 })
    const outside = await mqttClient(url, { protocolVersion: 5 })
    const path = `${bridge.url}/subscribe?topic=a`
    const stream = await openStream(path)
    const { id } = await stream.opening
    for (const [payload, messageExpiryInterval] of [
      ['short', 1],
      ['long', 3600],
    ] as const) {
      await outside.publishAsync('a', payload, { qos: 1, properties: { messageExpiryInterval } })
    }
    expect((await stream.take(2)).map(({ data }) => data.payload)).toEqual(['short', 'long'])
    stream.close()
    await expectStreams(bridge, 0)
    await expect
      .poll(
        async () => {
          const back = await openStream(path, { 'last-event-id': id! })
          const { data } = await back.next()
          back.close()
          return [data.payload, data.properties.messageExpiryInterval < 3600]
        },
        { timeout: 10_000 },
      )
      .toEqual(['long', true])
  })
})
