import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { startCuttingProxy } from '../../support/cutting-proxy.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { startProxy } from '../../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const live = { cmd: 'publish', topic: 'a', payload: 'x', qos: 1, retain: false, dup: false } as const
const isSubscriber = ({ connect }: Peer): boolean => connect?.clientId.includes('-subscribe-') === true

describe.skipIf(!hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test.each([
    ['more messages than the broker keeps', 1500, ['broker-queue']],
    ['fewer messages than the broker keeps', 500, []],
  ])('behind an outage with %s the gaps are right', async (_what, count, gaps) => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, STREAM_LOG_MESSAGES: 10_000 })
    const outside = await mqttClient(broker.url)
    // Begins with retained messages, so it is known that markers work.
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await outside.publishAsync('a', 'first', { qos: 1, retain: true })
    await stream.next()
    const other = await openStream(`${bridge.url}/subscribe?topic=a`)
    expect((await other.next()).data.payload).toBe('first')
    await proxy.refuse()
    await expect.poll(() => stream.events.at(-1)?.data.broker).toBe('disconnected')
    const payloads = Array.from({ length: count }, (_, index) => `${index}`)
    await Promise.all(payloads.map((payload) => outside.publishAsync('a', payload, { qos: 1 })))
    await proxy.accept()
    const seen = () => stream.events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)
    await expect
      .poll(() => stream.events.some(({ data }) => data.broker === 'connected'), { timeout: 15_000 })
      .toBe(true)
    await outside.publishAsync('a', 'last', { qos: 1 })
    await expect.poll(() => seen().at(-1), { timeout: 15_000 }).toBe('last')
    const reasons = () => stream.events.filter(({ event }) => event === 'gap').map(({ data }) => data.reason)
    await expect.poll(reasons).toEqual(gaps)
    if (gaps.length === 0) expect(seen()).toEqual(['first', ...payloads, 'last'])
  })

  test('a queue that was full is a gap, though the connection is cut again before all of it has come', async () => {
    const broker = await startMosquitto()
    let isAway = false
    let [cutAfter, came] = [Infinity, 0]
    const proxy = await startCuttingProxy(broker.url, (direction, packet, connect) => {
      if (connect?.clientId.includes('-subscribe-') !== true) return undefined
      if (isAway && packet.cmd !== 'connack') return 'before'
      if (direction !== 'down' || packet.cmd !== 'publish' || packet.topic !== 'a') return undefined
      came += 1
      if (came <= cutAfter) return undefined
      cutAfter = Infinity
      return 'before'
    })
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, STREAM_LOG_MESSAGES: 10_000 })
    const outside = await mqttClient(broker.url)
    await outside.publishAsync('a', 'first', { qos: 1, retain: true })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await stream.next()
    isAway = true
    await outside.publishAsync('a', 'cuts', { qos: 1 })
    await expect.poll(() => stream.events.at(-1)?.data.broker).toBe('disconnected')
    const payloads = Array.from({ length: 1500 }, (_, index) => `${index}`)
    await Promise.all(payloads.map((payload) => outside.publishAsync('a', payload, { qos: 1 })))
    came = 0
    cutAfter = 600
    isAway = false
    const connects = () => stream.events.filter(({ data }) => data.broker === 'connected').length
    await expect.poll(connects, { timeout: 15_000 }).toBeGreaterThanOrEqual(2)
    await outside.publishAsync('a', 'last', { qos: 1 })
    await expect
      .poll(() => stream.events.findLast(({ event }) => event === 'message')?.data.payload, { timeout: 15_000 })
      .toBe('last')
    await expect
      .poll(() => stream.events.filter(({ event }) => event === 'gap').map(({ data }) => data.reason))
      .toEqual(['broker-queue'])
    expect(cutAfter).toBe(Infinity)
  })

  test('a session that the broker kept is known as such, though a CONNACK was lost in between', async () => {
    const broker = await startMosquitto()
    let isCutting = false
    const proxy = await startCuttingProxy(broker.url, (direction, packet, connect) => {
      if (connect?.clientId.includes('-subscribe-') !== true) return undefined
      if (isCutting && direction === 'up' && packet.cmd === 'puback') return 'before'
      if (!isCutting || direction !== 'down' || packet.cmd !== 'connack') return undefined
      isCutting = false
      return 'before'
    })
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const outside = await mqttClient(broker.url)
    await outside.publishAsync('a', 'retained', { qos: 1, retain: true })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await stream.next()
    isCutting = true
    await outside.publishAsync('a', '1', { qos: 1 })
    await expect
      .poll(() => stream.events.some(({ data }) => data.broker === 'connected'), { timeout: 15_000 })
      .toBe(true)
    await outside.publishAsync('a', '2', { qos: 1 })
    await expect.poll(() => stream.events.at(-1)?.data.payload, { timeout: 15_000 }).toBe('2')
    expect(isCutting).toBe(false)
    expect(stream.events.filter(({ event }) => event === 'gap')).toEqual([])
  })
})

test('a session that began with a CONNECT whose CONNACK was lost is a gap', async () => {
  let connects = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || packet.clean || !isSubscriber(peer)) return false
    connects += 1
    if (connects === 1) return false
    if (connects === 2) {
      // The CONNACK without a session, which a new one begins with, never arrives.
      peer.hold()
      peer.accept(false)
      peer.close()
    } else peer.accept(true)
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  broker.peers.findLast(isSubscriber)!.close()
  await expect
    .poll(() => stream.events.map(({ data }) => data.reason).filter(Boolean), { timeout: 15_000 })
    .toEqual(['broker-session-lost'])
  const back = broker.peers.findLast(isSubscriber)!
  await expect.poll(() => back.received.some(({ cmd }) => cmd === 'subscribe')).toBe(true)
})

test('a late SUBACK behind a reconnect is no refusal: the filter is asked for again', async () => {
  let isLost = false
  let asked = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (!isLost || !isSubscriber(peer)) return false
    if (packet.cmd === 'connect') {
      peer.accept(false)
      return true
    }
    if (packet.cmd !== 'subscribe') return false
    asked += 1
    return asked === 1
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 300 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  isLost = true
  broker.peers.findLast(isSubscriber)!.close()
  await expect.poll(() => stream.events.at(-1)?.data.broker, { timeout: 10_000 }).toBe('connected')
  expect(asked).toBe(2)
  broker.peers.findLast(isSubscriber)!.send({ ...live, messageId: 1 })
  await expect.poll(() => stream.events.at(-1)?.data.payload).toBe('x')
})

test('a filter that the broker does not support any more is given back, and blocks nothing', async () => {
  let isLost = false
  let unsubscribed = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (!isSubscriber(peer)) return false
    if (packet.cmd === 'unsubscribe') unsubscribed += 1
    if (!isLost || packet.cmd !== 'connect') return false
    const properties = { wildcardSubscriptionAvailable: false, sharedSubscriptionAvailable: false }
    peer.send({ cmd: 'connack', sessionPresent: true, reasonCode: 0, properties } as never)
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const streams = await Promise.all(
    ['a/%23', '$share/g/a'].map((topic) => openStream(`${bridge.url}/subscribe?topic=${topic}&retained=false`)),
  )
  isLost = true
  broker.peers.findLast(isSubscriber)!.close()
  await expect.poll(() => streams[0]!.events.at(-1)?.data.broker, { timeout: 10_000 }).toBe('connected')
  for (const stream of streams) stream.close()
  await expectNothingLeft(bridge)
  expect(unsubscribed).toBe(2)
  expect((await get(bridge, '/livez')).status).toBe(200)
})

test('what the broker sends again is dropped where it certainly is the same packet, and marked otherwise', async () => {
  let isLost = false
  // Without markers: they would be packets with identifiers of their own between the messages.
  const withoutMarkers = { handlesMarkers: false }
  const broker = await startScriptedBroker((packet, peer) => {
    if (!isLost || packet.cmd !== 'connect' || !isSubscriber(peer)) return false
    peer.accept(true)
    // The first one had been acknowledged, as far as the bridge knows.
    peer.send({ ...live, payload: '2', messageId: 6, dup: true }, { ...live, payload: '3', messageId: 7, dup: true })
    return true
  }, withoutMarkers)
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  const subscriber = broker.peers.findLast(isSubscriber)!
  subscriber.send({ ...live, payload: '1', messageId: 5 })
  // A round trip behind the first message shows that its identifier is free again, and the next one is a higher one.
  await expect.poll(() => subscriber.received.filter(({ cmd }) => cmd === 'pingreq').length).toBe(1)
  await expect.poll(() => metric(bridge, 'causeway_received_messages_total{qos="1"}')).toBe(1)
  subscriber.send({ ...live, payload: '2', messageId: 6 })
  await stream.take(2)
  isLost = true
  subscriber.close()
  const events = await stream.take(3)
  expect(events.filter(({ event }) => event === 'message').map(({ data }) => [data.payload, data.redelivered])).toEqual(
    [['3', true]],
  )
})

test('a session that began before markers were known to come back is known as one’s own behind an outage', async () => {
  const marked = new Set<Peer>()
  let first: Peer | undefined
  const broker = await startScriptedBroker(() => {}, {
    // The first marker is on its way until streams are open.
    onMarker(from) {
      if (first === undefined) from.hold()
      first ??= from
    },
    onMarkersSubscribed: (by) => void marked.add(by),
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1', MQTT_CLIENT_ID: 'same' })
  // Filters that overlap have connections of their own.
  const streams = await Promise.all(
    ['a', '%2B'].map((topic) => openStream(`${bridge.url}/subscribe?topic=${topic}&retained=false`)),
  )
  first!.flow()
  const subscribers = () => broker.peers.filter((peer) => isSubscriber(peer) && !peer.connect!.clean)
  await expect.poll(() => subscribers().filter((peer) => marked.has(peer)).length).toBe(2)
  for (const peer of subscribers()) peer.close()
  for (const stream of streams) {
    const seen = () => stream.events.map(({ event, data }) => data.reason ?? data.broker ?? event)
    await expect.poll(() => seen().slice(-2), { timeout: 10_000 }).toEqual(['disconnected', 'connected'])
  }
})

test('what a session holds is marked if it comes again, though pings are answered before', async () => {
  let [isLost, pings] = [false, 0]
  const again = { ...live, payload: 'again', messageId: 5 }
  const broker = await startScriptedBroker((packet, peer) => {
    if (!isLost || !isSubscriber(peer)) return false
    if (packet.cmd === 'connect') {
      peer.accept(true)
      // Artemis begins with this only later. The markers come behind it.
      peer.hold()
      peer.send(again)
      return true
    }
    if (packet.cmd !== 'pingreq') return false
    peer.sendNow({ cmd: 'pingresp' })
    pings += 1
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1' })
  // Waits until it is known that markers come back, so that they do on the connection of the stream, too.
  expect((await get(bridge, '/retained?topic=a')).status).toBe(404)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  broker.peers.findLast(isSubscriber)!.send(again)
  expect((await stream.next()).data.payload).toBe('again')
  isLost = true
  broker.peers.findLast(isSubscriber)!.close()
  await expect.poll(() => pings).toBeGreaterThanOrEqual(3)
  // Time for the bridge to take it that nothing more comes.
  await delay(200)
  broker.peers.findLast(isSubscriber)!.flow()
  const messages = () => stream.events.filter(({ event }) => event === 'message').map(({ data }) => data)
  await expect.poll(() => messages().length).toBe(2)
  expect(messages()[1]).toMatchObject({ payload: 'again', redelivered: true })
})

test.each(['5', '3.1.1'])(
  'a filter that was granted just before is asked for again: over MQTT %s',
  async (protocol) => {
    let hasFilter = true
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'subscribe' || !isSubscriber(peer) || packet.subscriptions[0]!.topic !== 'a') return false
      // Retain handling 2: no retained messages, which the stream has had.
      expect(packet.subscriptions[0]!.rh).toBe(protocol === '5' ? 2 : undefined)
      hasFilter = true
      return false
    })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    // It has died and is back, with the session but without the filter.
    hasFilter = false
    broker.peers.findLast(isSubscriber)!.close()
    await expect.poll(() => stream.events.at(-1)?.data.broker, { timeout: 10_000 }).toBe('connected')
    await expect.poll(() => hasFilter).toBe(true)
    // Over MQTT 3.1.1 the broker sends retained messages all the same, and marks them.
    const back = broker.peers.findLast(isSubscriber)!
    back.send({ ...live, payload: 'retained', retain: true, messageId: 1 }, { ...live, payload: 'new', messageId: 2 })
    await expect.poll(() => stream.events.at(-1)?.data.payload).toBe('new')
    expect(stream.events.filter(({ event }) => event === 'message')).toHaveLength(1)
    expect(stream.events.filter(({ event }) => event === 'gap')).toEqual([])
  },
)
