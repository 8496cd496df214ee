import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { freePort } from '../support/free-port.ts'
import { get } from '../support/http.ts'
import { hasSubscribers, mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { startProxy } from '../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

test('a stream asked for while the broker is away gets 503 and when to come back', async () => {
  const bridge = await startBridge({ MQTT_URL: `mqtt://127.0.0.1:${await freePort()}` }, { waitForBroker: false })
  const { status, headers, body } = await get(bridge, '/subscribe?topic=a')
  expect([status, body.code, body.retryable]).toEqual([503, 'broker-unavailable', true])
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
  await expectNothingLeft(bridge)
})

test('a filter that is wanted again while its UNSUBSCRIBE has no answer is subscribed to again', async () => {
  let leaving: Peer | undefined
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'unsubscribe' || leaving !== undefined) return false
    leaving = peer
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const path = '/subscribe?topic=a&retained=false'
  const first = await openStream(`${bridge.url}${path}`)
  first.close()
  await expect.poll(() => leaving).toBeDefined()
  const again = openStream(`${bridge.url}${path}`)
  await get(bridge, '/livez')
  leaving!.close()
  let stream = await again
  // It may be told that the broker went away meanwhile.
  for (; stream.status === 503; stream = await openStream(`${bridge.url}${path}`)) stream.close()
  const subscribed = broker.peers.findLast(({ received }) => received.some(({ cmd }) => cmd === 'subscribe'))!
  expect(subscribed).not.toBe(leaving)
  subscribed.send({ cmd: 'publish', topic: 'a', payload: 'x', qos: 0, retain: false, dup: false })
  expect((await stream.next()).data.payload).toBe('x')
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('streams over MQTT %s', (protocol) => {
  test('say that the broker went, that messages may be missing, and that it is back; then go on', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
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

  test('come back again and again, and leave nothing of what ended meanwhile', async () => {
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

  test('miss nothing of QoS 1 over a cut, and have no gap, where the broker keeps the session', async () => {
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
    // What the broker kept may be there before all subscriptions are known to be.
    const events = await stream.take(51)
    expect(events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)).toEqual(
      Array.from({ length: 50 }, (_, index) => `${index + 1}`),
    )
    expect(events.filter(({ event }) => event !== 'message').map(({ data }) => data)).toEqual([{ broker: 'connected' }])
  })

  test('have a gap over a cut where QoS 0 is all they get', async () => {
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

  test('miss nothing of QoS 1 over a restart of a broker with persistence', async () => {
    const broker = await startMosquitto({ persistence: true })
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    // Mosquitto 2.0 saves no session that began with Clean Start 1 until it has been resumed.
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

  test('say that the broker is back only once it has their subscription again', async () => {
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
    // One published now would be lost behind the gap that speaks of the ones before it.
    expect(await hasSubscribers(broker.url, 'a')).toBe(true)
    expect((await stream.next()).data).toMatchObject({ topic: 'a' })
  })

  test('that join others while the broker is away are told so', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const first = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    await broker.kill()
    expect((await first.next()).data).toEqual({ broker: 'disconnected' })
    await expect.poll(async () => (await get(bridge, '/readyz')).status).toBe(503)
    const second = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    expect(second.status).toBe(200)
    expect((await second.next()).data).toEqual({ broker: 'disconnected' })
  })
})
