import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get, publish } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { startProxy } from '../../support/proxy.ts'
import { acknowledge, count, numbers, openSession, type SessionReader, told } from '../../support/session.ts'

const isReady = async (bridge: Bridge) => expect.poll(async () => (await get(bridge, '/readyz')).status).toBe(200)
const messages = ({ events }: SessionReader) => told(events.filter(({ event }) => event === 'message'))

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('a durable session over MQTT %s', (protocol) => {
  test('gets no message twice when the connection is cut, acknowledged meanwhile or not', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const reader = await openSession(bridge, { ack: 'explicit' })
    const publisher = await mqttClient(broker.url)
    await count(bridge, 0, 6)
    const events = await reader.take(6)
    await proxy.refuse()
    expect((await reader.next()).data).toEqual({ broker: 'disconnected' })
    // The PUBACKs of these cannot be sent before the connection is back.
    expect(await acknowledge(bridge, reader, events[2]!)).toEqual({
      status: 200,
      body: { acknowledged: 3, unacknowledged: 3 },
    })
    for (const payload of numbers(6, 8)) await publisher.publishAsync('a', payload, { qos: 1 })
    await proxy.accept()
    expect((await reader.next()).data).toEqual({ broker: 'connected' })
    expect(told(await reader.take(2))).toEqual(['6', '7'])
    await acknowledge(bridge, reader, reader.events.at(-1)!)
    reader.close()
    await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
    await isReady(bridge)
    await count(bridge, 8, 9)
    const next = await openSession(bridge, { ack: 'explicit' })
    expect(next.about.data.present).toBe(true)
    expect(told([await next.next()])).toEqual(['8'])
  })

  test('loses nothing over a restart of a broker with persistence', async () => {
    const broker = await startMosquitto({ persistence: true })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const reader = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 3)
    await acknowledge(bridge, reader, (await reader.take(3))[0]!)
    await broker.stop()
    await broker.start()
    await isReady(bridge)
    await expect.poll(async () => (await publish(bridge, { topic: 'a', payload: '3' })).status).toBe(200)
    await expect.poll(() => messages(reader).at(-1)).toBe('3')
    expect(messages(reader)).toEqual(numbers(0, 4))
    expect(reader.events.some(({ event }) => event === 'gap')).toBe(false)
  })

  test.each(['auto', 'explicit'] as const)(
    'with ack=%s sends a gap and goes on when the broker lost it',
    async (ack) => {
      const broker = await startMosquitto()
      const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, STREAM_LINGER_MS: 60_000 })
      const reader = await openSession(bridge, { ack })
      await count(bridge, 0, 2)
      const [first] = await reader.take(2)
      await broker.kill()
      await broker.start()
      expect((await reader.take(3)).map(({ data }) => data)).toEqual([
        { broker: 'disconnected' },
        { reason: 'broker-session-lost' },
        { broker: 'connected' },
      ])
      // The broker lost its session, so it does not wait for acknowledgements of these any more.
      if (ack === 'explicit') {
        expect(await acknowledge(bridge, reader, first!)).toMatchObject({
          body: { acknowledged: 1, unacknowledged: 1 },
        })
      }
      await isReady(bridge)
      await expect
        .poll(async () => (await publish(bridge, { topic: 'a', payload: '2' })).body.matchedSubscribers)
        .not.toBe(false)
      await expect.poll(() => messages(reader).at(-1)).toBe('2')
      const id = reader.events.at(-1)!.id
      reader.close()
      await expect.poll(() => metric(bridge, 'causeway_mqtt_connections{role="session",state="connected"}')).toBe(0)
      await broker.kill()
      await broker.start()
      await isReady(bridge)
      const back = await openSession(bridge, { ack, lastEventId: id })
      expect(back.about.data.present).toBe(false)
      expect((await back.next()).data).toEqual({ reason: 'broker-session-lost' })
    },
  )

  test('is a 503 while the broker cannot be reached', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, SUBSCRIBE_WAIT_MS: 500 })
    await broker.kill()
    await expect.poll(async () => (await get(bridge, '/readyz')).status).toBe(503)
    expect(await get(bridge, '/subscribe?topic=a&session=s')).toMatchObject({
      status: 503,
      body: { code: 'broker-unavailable', retryable: true },
    })
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
    await broker.start()
    await isReady(bridge)
    await openSession(bridge)
  })
})
