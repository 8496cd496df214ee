import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { freePort } from '../../support/free-port.ts'
import { get } from '../../support/http.ts'
import { hasSubscribers, mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { startProxy } from '../../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

test('a stream requested while the broker cannot be reached gets 503 with Retry-After', async () => {
  const bridge = await startBridge(
    { MQTT_URL: `mqtt://127.0.0.1:${await freePort()}`, SUBSCRIBE_WAIT_MS: 0 },
    { waitForBroker: false },
  )
  const { status, headers, body } = await get(bridge, '/subscribe?topic=a')
  expect([status, body.code, body.retryable]).toEqual([503, 'broker-unavailable', true])
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
  await expectNothingLeft(bridge)
})

test('a filter requested again before its UNSUBACK is subscribed to again', async () => {
  let leaving: Peer | undefined
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'unsubscribe' || leaving !== undefined) return false
    leaving = peer
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, SUBSCRIBE_WAIT_MS: 0 })
  const path = '/subscribe?topic=a&retained=false'
  const first = await openStream(`${bridge.url}${path}`)
  first.close()
  await expect.poll(() => leaving).toBeDefined()
  const again = openStream(`${bridge.url}${path}`)
  await get(bridge, '/livez')
  leaving!.close()
  let stream = await again
  // The request may get 503, because the connection was lost while it waited.
  for (; stream.status === 503; stream = await openStream(`${bridge.url}${path}`)) stream.close()
  const subscribed = broker.peers.findLast(({ received }) => received.some(({ cmd }) => cmd === 'subscribe'))!
  expect(subscribed).not.toBe(leaving)
  subscribed.send({ cmd: 'publish', topic: 'a', payload: 'x', qos: 0, retain: false, dup: false })
  expect((await stream.next()).data.payload).toBe('x')
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('streams over MQTT %s', (protocol) => {
  test('report the loss, a gap and the reconnect, and then go on', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, SUBSCRIBE_WAIT_MS: 0 })
    const streams = await Promise.all(
      ['topic=a', 'topic=a&topic=b/%23', 'topic=a&encoding=json'].map((query) =>
        openStream(`${bridge.url}/subscribe?${query}`),
      ),
    )
    await broker.kill()
    for (const stream of streams) {
      expect(await stream.next()).toMatchObject({ event: 'status', data: { broker: 'disconnected' } })
    }
    await expect.poll(async () => (await get(bridge, '/subscribe?topic=new')).status).toBe(503)
    await broker.start()
    for (const stream of streams) {
      const [gap, back] = await stream.take(2)
      expect(gap).toMatchObject({ event: 'gap', data: { reason: 'broker-session-lost' } })
      expect(back).toMatchObject({ event: 'status', data: { broker: 'connected' } })
    }
    await expect.poll(() => hasSubscribers(broker.url, 'a')).toBe(true)
    for (const stream of streams) expect(await stream.next()).toMatchObject({ event: 'message', data: { topic: 'a' } })
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="subscribe"}')).toBe(1)
    for (const stream of streams) stream.close()
    await expectNothingLeft(bridge)
  })

  test('survive repeated losses, and nothing is left of streams that ended meanwhile', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/%23`)
    for (let round = 0; round < 3; round += 1) {
      const leaving = await openStream(`${bridge.url}/subscribe?topic=a/%23&topic=b`)
      await broker.kill()
      expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
      leaving.close()
      await broker.start()
      expect((await stream.take(2)).map(({ data }) => data)).toEqual([
        { reason: 'broker-session-lost' },
        { broker: 'connected' },
      ])
      await expect.poll(() => hasSubscribers(broker.url, 'a/1')).toBe(true)
      expect((await stream.next()).data).toMatchObject({ topic: 'a/1' })
      await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
      expect(await hasSubscribers(broker.url, 'b')).toBe(false)
    }
  })

  test('miss no QoS 1 message and have no gap after a cut, if the broker keeps the session', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const publisher = await mqttClient(broker.url)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await publisher.publishAsync('a', '0', { qos: 1 })
    expect((await stream.next()).data).toMatchObject({ payload: '0' })
    await proxy.refuse()
    expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
    for (let count = 1; count <= 50; count += 1) await publisher.publishAsync('a', `${count}`, { qos: 1 })
    await proxy.accept()
    // Kept messages may arrive before all subscriptions are restored, so the order of the two kinds of events is open.
    const events = await stream.take(51)
    expect(events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)).toEqual(
      Array.from({ length: 50 }, (_, index) => `${index + 1}`),
    )
    expect(events.filter(({ event }) => event !== 'message').map(({ data }) => data)).toEqual([{ broker: 'connected' }])
  })

  test('have a gap after a cut if they get messages at QoS 0', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const publisher = await mqttClient(broker.url)
    const modest = await openStream(`${bridge.url}/subscribe?topic=a&qos=0`)
    const sparse = await openStream(`${bridge.url}/subscribe?topic=b`)
    await publisher.publishAsync('b', 'sent at QoS 0', { qos: 0 })
    expect((await sparse.next()).data).toMatchObject({ qos: 0 })
    proxy.cut()
    for (const stream of [modest, sparse]) {
      expect((await stream.take(3)).map(({ data }) => data)).toEqual([
        { broker: 'disconnected' },
        { reason: 'broker-connection-lost' },
        { broker: 'connected' },
      ])
    }
    await publisher.publishAsync('a', 'live', { qos: 1 })
    expect((await modest.next()).data).toMatchObject({ payload: 'live' })
  })

  test('miss no QoS 1 message when a broker with persistence restarts', async () => {
    const broker = await startMosquitto({ persistence: true })
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    // Mosquitto 2.0 does not save a session that began with Clean Start until a client has resumed it.
    proxy.cut()
    expect((await stream.take(2)).map(({ data }) => data)).toEqual([
      { broker: 'disconnected' },
      { broker: 'connected' },
    ])
    await proxy.refuse()
    expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
    const publisher = await mqttClient(broker.url)
    await publisher.publishAsync('a', 'kept', { qos: 1 })
    await broker.stop()
    await broker.start()
    await proxy.accept()
    const back = (await stream.take(2)).map(({ data }) => data)
    expect(back).toContainEqual({ broker: 'connected' })
    expect(back).toContainEqual(expect.objectContaining({ topic: 'a', payload: 'kept' }))
  })

  test('report the reconnect only once the broker has their subscription again', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await proxy.refuse()
    await broker.kill()
    await broker.start()
    proxy.delay(100)
    await proxy.accept()
    expect((await stream.take(3)).map(({ data }) => data)).toEqual([
      { broker: 'disconnected' },
      { reason: 'broker-session-lost' },
      { broker: 'connected' },
    ])
    // Otherwise a message published now would be lost after the gap, and no event would tell.
    expect(await hasSubscribers(broker.url, 'a')).toBe(true)
    expect((await stream.next()).data).toMatchObject({ topic: 'a' })
  })

  test('that join others while the connection is lost are told so', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const first = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    await broker.kill()
    expect((await first.next()).data).toEqual({ broker: 'disconnected' })
    await expect.poll(async () => (await get(bridge, '/readyz')).status).toBe(503)
    const second = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    expect(second.status).toBe(200)
    expect((await second.opening).data).toEqual({ broker: 'disconnected' })
  })
})
