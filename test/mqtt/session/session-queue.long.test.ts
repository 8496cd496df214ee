import type { MqttClient } from 'mqtt'
import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { startProxy } from '../../support/proxy.ts'
import { acknowledge, numbers, openSession, type SessionReader } from '../../support/session.ts'

/** Mosquitto keeps 1000 for a client that is away (`max_queued_messages`), and drops what is more. */
const sizes = [
  ['more messages than the broker keeps', 1500, ['broker-queue']],
  ['fewer messages than the broker keeps', 700, []],
] as const

const payloads = ({ events }: SessionReader) =>
  events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)
const reasons = ({ events }: SessionReader) =>
  events.filter(({ event }) => event === 'gap').map(({ data }) => data.reason)

async function publishAll(client: MqttClient, texts: string[]): Promise<void> {
  await Promise.all(texts.map((text) => client.publishAsync('a', text, { qos: 1 })))
}

/** Reads and acknowledges all that is there, with what is published last. */
async function readAll(bridge: Bridge, reader: SessionReader, outside: MqttClient, ack: string): Promise<void> {
  const isThere = async () => {
    const event = reader.events.findLast((one) => one.event === 'message')
    if (ack === 'explicit' && event !== undefined) await acknowledge(bridge, reader, event)
    return payloads(reader).at(-1)
  }
  // A queue that is still full takes no message.
  await expect
    .poll(
      async () => {
        await outside.publishAsync('a', 'last', { qos: 1 })
        return isThere()
      },
      { timeout: 30_000 },
    )
    .toBe('last')
}

const settings = { STREAM_LOG_MESSAGES: 10_000, SESSION_MAX_UNACKED: 400 }

describe.skipIf(!hasMosquitto).each(['5', '3.1.1'])('a durable session over MQTT %s', (protocol) => {
  test.each([
    ['auto', ...sizes[0]],
    ['explicit', ...sizes[0]],
    ['explicit', ...sizes[1]],
  ] as const)(
    'with ack=%s, whose reader comes back to another bridge behind %s',
    { timeout: 60_000 },
    async (ack, _what, count, gaps) => {
      const broker = await startMosquitto()
      const outside = await mqttClient(broker.url)
      const mqtt = { MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, ...settings }
      const first = await startBridge(mqtt)
      const left = await openSession(first, { ack })
      left.close()
      await expect.poll(() => metric(first, 'causeway_sessions_open')).toBe(0)
      await publishAll(outside, numbers(0, count))
      const bridge = await startBridge(mqtt)
      await markersWork(bridge)
      const reader = await openSession(bridge, { ack })
      expect(reader.about.data.present).toBe(true)
      await readAll(bridge, reader, outside, ack)
      expect(reasons(reader).filter((reason) => reason !== 'unknown-id')).toEqual(gaps)
      expect(await metric(bridge, 'causeway_stream_gaps_total{reason="broker-queue"}')).toBe(gaps.length)
      if (gaps.length === 0) expect(payloads(reader).filter((text) => text !== 'last')).toEqual(numbers(0, count))
    },
  )

  test.each(sizes)('that was cut off while %s came', { timeout: 60_000 }, async (_what, count, gaps) => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, ...settings })
    const outside = await mqttClient(broker.url)
    await markersWork(bridge)
    const reader = await openSession(bridge, { ack: 'auto' })
    await publishAll(outside, numbers(0, 10))
    await reader.take(10)
    await proxy.refuse()
    await expect.poll(() => reader.events.at(-1)?.data.broker).toBe('disconnected')
    await publishAll(outside, numbers(10, count))
    await proxy.accept()
    await readAll(bridge, reader, outside, 'auto')
    expect(reasons(reader)).toEqual(gaps)
    // What had not been acknowledged when the connection was cut comes again.
    const got = [...new Set(payloads(reader))].filter((text) => text !== 'last')
    if (gaps.length === 0) expect(got).toEqual(numbers(0, count))
  })

  test.each(sizes)(
    'whose marker the broker does not take, behind %s',
    { timeout: 60_000 },
    async (_what, count, gaps) => {
      const broker = await startMosquitto({ acl: ['topic readwrite a', 'topic read causeway/marker/#'] })
      const outside = await mqttClient(broker.url)
      const bridge = await startBridge({
        MQTT_URL: broker.url,
        MQTT_PROTOCOL: protocol,
        STREAM_LINGER_MS: 0,
        ...settings,
      })
      const left = await openSession(bridge, { ack: 'auto' })
      left.close()
      await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
      await publishAll(outside, numbers(0, count))
      const reader = await openSession(bridge, { ack: 'auto' })
      await readAll(bridge, reader, outside, 'auto')
      expect(reasons(reader)).toEqual(gaps)
    },
  )
})

test.skipIf(!hasMosquitto).each(['5', '3.1.1'])(
  'what a session over MQTT %s has unacknowledged takes room in the queue, too',
  { timeout: 60_000 },
  async (protocol) => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const outside = await mqttClient(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, ...settings })
    await markersWork(bridge)
    const reader = await openSession(bridge, { ack: 'explicit' })
    await publishAll(outside, numbers(0, 300))
    await reader.take(20)
    await proxy.refuse()
    await expect.poll(() => reader.events.at(-1)?.data.broker).toBe('disconnected')
    await publishAll(outside, numbers(300, 1050))
    await proxy.accept()
    await readAll(bridge, reader, outside, 'explicit')
    expect(new Set(reasons(reader))).toEqual(new Set(['broker-queue']))
  },
)

// Over MQTT 5 the bridge lets Mosquitto send 65,535 messages ahead of the acknowledgements.
test.skipIf(!hasMosquitto)(
  'a session over MQTT 3.1.1 whose connected reader lets the queue overflow',
  { timeout: 60_000 },
  async () => {
    const broker = await startMosquitto()
    const outside = await mqttClient(broker.url)
    const bridge = await startBridge({
      MQTT_URL: broker.url,
      MQTT_PROTOCOL: '3.1.1',
      ...settings,
      SESSION_MAX_UNACKED: 10,
    })
    await markersWork(bridge)
    const reader = await openSession(bridge, { ack: 'explicit' })
    await publishAll(outside, numbers(0, 1500))
    await reader.take(10)
    expect(reasons(reader)).toEqual([])
    await readAll(bridge, reader, outside, 'explicit')
    // Again as long as it stays full.
    expect(new Set(reasons(reader))).toEqual(new Set(['broker-queue']))
  },
)

test.skipIf(!hasMosquitto)('no limit of the broker, no gap', { timeout: 60_000 }, async () => {
  const broker = await startMosquitto({ config: ['max_queued_messages 0'] })
  const outside = await mqttClient(broker.url)
  const mqtt = { MQTT_URL: broker.url, BROKER_QUEUE_MAX: 0, STREAM_LINGER_MS: 0, ...settings }
  const bridge = await startBridge(mqtt)
  await markersWork(bridge)
  const left = await openSession(bridge)
  left.close()
  await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
  await publishAll(outside, numbers(0, 3000))
  const reader = await openSession(bridge)
  await readAll(bridge, reader, outside, 'auto')
  expect(reader.events.filter(({ event }) => event === 'gap')).toEqual([])
})

/** A read of retained messages waits until it is known whether markers work. */
async function markersWork(bridge: Bridge): Promise<void> {
  await (await fetch(`${bridge.url}/retained?topic=nothing`)).text()
}
