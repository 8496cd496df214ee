import type { Packet } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { type Bridge, BROKERS, brokerUrl, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { startCuttingProxy } from '../support/cutting-proxy.ts'
import { get, publish, publishRaw } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { startProxy } from '../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

/** Without properties: these count, too. */
async function retain(bridge: Bridge, topic: string, payload: string): Promise<void> {
  expect((await publish(bridge, { topic, payload, retain: true })).status).toBe(200)
}

const topics = (count: number): string[] => Array.from({ length: count }, (_, index) => `r/${index}`)

describe.each(BROKERS)('reading retained messages on $name', ({ start }) => {
  test('ends even if messages keep arriving for the filter', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const outside = await mqttClient(brokerUrl(bridge, settings))
    for (const topic of topics(100)) await outside.publishAsync(topic, 'x', { qos: 1, retain: true })
    let reading = true
    const traffic = (async () => {
      while (reading) await Promise.all(topics(50).map((topic) => outside.publishAsync(topic, 'live', { qos: 1 })))
    })()
    for (let reads = 0; reads < 10; reads += 1) {
      const { body } = await get(bridge, '/retained?topic=r/%23')
      expect(body).toHaveLength(100)
      expect(body.every(({ payload }: { payload: string }) => payload === 'x')).toBe(true)
    }
    reading = false
    await traffic
  })

  test('is refused beyond the limits, also to a stream, and allowed at them', async () => {
    const bridge = await startBridge({ ...(await start()), RETAINED_MAX: 5, RETAINED_MAX_BYTES: 2000 })
    for (const topic of topics(4)) await retain(bridge, topic, 'x')
    await retain(bridge, 'r/big', 'x'.repeat(1996))
    // With overlapping filters each message arrives more than once; it counts once.
    const stream = await openStream(`${bridge.url}/subscribe?topic=r/%23&topic=r/%2B&topic=r/1&topic=r/big`)
    expect(await stream.take(5)).toHaveLength(5)
    stream.close()
    expect((await get(bridge, '/retained?topic=r/%23')).body).toHaveLength(5)
    async function expectTooMany(): Promise<void> {
      for (const path of ['/retained?topic=r/%23', '/subscribe?topic=r/%23', '/subscribe?topic=r/%23&topic=r/%2B']) {
        expect(await get(bridge, path)).toMatchObject({
          status: 422,
          body: { code: 'too-many-retained', retryable: false },
        })
      }
      expect((await get(bridge, '/retained?topic=r/1')).status).toBe(200)
    }
    await retain(bridge, 'r/more', 'x')
    await retain(bridge, 'r/big', 'x')
    await expectTooMany()
    await retain(bridge, 'r/more', '')
    await retain(bridge, 'r/big', 'x'.repeat(1997))
    await expectTooMany()
    const without = await openStream(`${bridge.url}/subscribe?topic=r/%23&retained=false`)
    expect(without.status).toBe(200)
    without.close()
    await expectNothingLeft(bridge)
  })

  test('is refused if too many match the filters of a stream together', async () => {
    const bridge = await startBridge({ ...(await start()), RETAINED_MAX: 3, RETAINED_MAX_BYTES: 1500 })
    for (const topic of ['a/1', 'b/1']) await retain(bridge, topic, 'x'.repeat(800))
    expect((await get(bridge, '/subscribe?topic=a/%23&topic=b/%23')).body.code).toBe('too-many-retained')
    for (const topic of ['a/2', 'b/2']) await retain(bridge, topic, 'x')
    await retain(bridge, 'a/1', 'x')
    expect((await get(bridge, '/subscribe?topic=a/%23&topic=b/%23')).body.code).toBe('too-many-retained')
    expect((await get(bridge, '/retained?topic=a/%23')).body).toHaveLength(2)
    await expectNothingLeft(bridge)
  })
})

describe.skipIf(!hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test('streams that start at the same time share a snapshot', async () => {
    const broker = await startMosquitto()
    const subscribes: string[] = []
    const proxy = await startCuttingProxy(broker.url, (direction, packet, connect) => {
      if (direction === 'up' && packet.cmd === 'subscribe' && connect?.clientId.endsWith('-retained')) {
        subscribes.push(...packet.subscriptions.map(({ topic }) => topic))
      }
      return undefined
    })
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    await publishRaw(bridge, 'topic=a/b&retain=true', 'x')
    const streams = await Promise.all(
      Array.from({ length: 60 }, () => openStream(`${bridge.url}/subscribe?topic=a/%2B`)),
    )
    for (const stream of streams) {
      expect((await stream.next()).data).toMatchObject({ topic: 'a/b', retain: true })
      stream.close()
    }
    // One snapshot for the first stream, one for those that came meanwhile, and some for requests that arrived late.
    expect(subscribes.length).toBeLessThanOrEqual(10)
    await get(bridge, '/retained?topic=a/b')
    await get(bridge, '/retained?topic=a/b')
    expect(subscribes.filter((topic) => topic === 'a/b')).toHaveLength(2)
    await expectNothingLeft(bridge)
  })

  test('is a 503 without a broker, a 504 if the broker does not answer, and works when it is back', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 300 })
    await publishRaw(bridge, 'topic=a&retain=true', 'x')
    broker.freeze()
    expect(await get(bridge, '/retained?topic=a')).toMatchObject({
      status: 504,
      body: { code: 'acknowledgement-timeout' },
    })
    expect((await fetch(`${bridge.url}/retained?topic=a`, { method: 'DELETE' })).status).toBe(504)
    broker.thaw()
    await publishRaw(bridge, 'topic=a&retain=true', 'y')
    await expect.poll(async () => (await get(bridge, '/retained?topic=a')).body).toBe('y')
    await proxy.refuse()
    await expect
      .poll(async () => get(bridge, '/retained?topic=a'))
      .toMatchObject({ status: 503, body: { code: 'broker-unavailable', retryable: true } })
    const away = await get(bridge, '/retained?topic=a/%23')
    expect(away.status).toBe(503)
    expect(Number(away.headers.get('retry-after'))).toBeGreaterThan(0)
    await proxy.accept()
    await expect.poll(async () => (await get(bridge, '/retained?topic=a')).body, { timeout: 10_000 }).toBe('y')
  })
})

const live = { cmd: 'publish', topic: 'a', qos: 1, retain: false, dup: false } as const
const isRetained = ({ connect }: Peer): boolean => connect?.clientId.endsWith('-retained') === true
const isSubscriber = ({ connect }: Peer): boolean => connect?.clientId.endsWith('-subscribe-0') === true

/**
 * Handles markers. Behind `hold` those for subscribers wait until `deliver`, as behind other messages of a busy broker.
 */
function holdMarkers() {
  const held: (() => void)[] = []
  let isHolding = false
  const filters = new Map<Peer, string[]>()
  return {
    handle(packet: Packet, peer: Peer): boolean {
      if (packet.cmd === 'subscribe' && packet.subscriptions[0]!.topic.startsWith('causeway/marker/')) {
        filters.set(peer, [...(filters.get(peer) ?? []), packet.subscriptions[0]!.topic])
        return false
      }
      if (packet.cmd !== 'publish' || !packet.topic.startsWith('causeway/marker/')) return false
      peer.send({ cmd: 'puback', messageId: packet.messageId! })
      for (const [to, topics] of filters) {
        if (!topics.includes(packet.topic)) continue
        const send = () => to.send({ ...packet, messageId: 60_000, dup: false } as Packet)
        // Those with which the bridge tries out the order tell nothing of what came before them.
        if (isHolding && isSubscriber(to) && !packet.topic.endsWith('/order')) held.push(send)
        else send()
      }
      return true
    },
    count: () => held.length,
    hold(): void {
      isHolding = true
    },
    deliver(): void {
      for (const send of held.splice(0)) send()
    },
  }
}

test('a stream waits for the live copies of its retained messages, however late they come', async () => {
  const markers = holdMarkers()
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (markers.handle(packet, peer)) return true
      if (packet.cmd !== 'subscribe' || !isRetained(peer)) return false
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
      if (packet.subscriptions[0]!.topic !== 'a') return true
      peer.send({ ...live, payload: '2', messageId: 1, retain: true })
      markers.hold()
      return true
    },
    { handlesMarkers: false },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const opening = openStream(`${bridge.url}/subscribe?topic=a`)
  // One behind the SUBSCRIBE, and one behind the retained messages.
  await expect.poll(markers.count, { timeout: 10_000 }).toBe(2)
  const subscriber = broker.peers.findLast(isSubscriber)!
  // Pings are answered all the time, but messages published before the snapshot come only now.
  subscriber.send({ ...live, payload: '1', messageId: 1 }, { ...live, payload: '2', messageId: 2 })
  markers.deliver()
  subscriber.send({ ...live, payload: '3', messageId: 3 })
  const stream = await opening
  expect((await stream.take(3)).map(({ data: { payload, retain } }) => [payload, retain])).toEqual([
    ['1', false],
    ['2', false],
    ['3', false],
  ])
  stream.close()
  await expectNothingLeft(bridge)
})

test('a stream waits for live QoS 2 copies that are held back by the broker’s window', async () => {
  const WINDOW = 20
  const payloads = Array.from({ length: 3 * WINDOW }, (_, index) => String(index))
  const waiting = payloads.map((payload, index) => ({ ...live, qos: 2, payload, messageId: index + 1 }) as const)
  let inFlight = 0
  // A marker would wait behind them at a real broker, which shows nothing else than the round trips do.
  const withoutMarkers = { handlesMarkers: false }
  const broker = await startScriptedBroker((packet, peer) => {
    const sendOn = (): void => {
      while (inFlight < WINDOW && waiting.length > 0) {
        inFlight += 1
        peer.send(waiting.shift()!)
      }
    }
    if (packet.cmd === 'pubrec') peer.send({ cmd: 'pubrel', messageId: packet.messageId! })
    else if (packet.cmd === 'pubcomp') {
      inFlight -= 1
      sendOn()
    } else if (packet.cmd === 'subscribe' && isRetained(peer)) {
      peer.send(
        { cmd: 'suback', messageId: packet.messageId!, granted: [1] },
        { ...live, payload: payloads.at(-1)!, messageId: 1, retain: true },
      )
    } else if (packet.cmd === 'pingreq' && isSubscriber(peer)) {
      sendOn()
      peer.send({ cmd: 'pingresp' })
    } else return false
    return true
  }, withoutMarkers)
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&qos=2`)
  expect((await stream.take(payloads.length)).map(({ data: { payload, retain } }) => [payload, retain])).toEqual(
    payloads.map((payload) => [payload, false]),
  )
})

test('a stream waits for messages that the broker kept while the connection was lost', async () => {
  let isLost = false
  let isRead = false
  let returning: Peer | undefined
  function comeBack(): void {
    if (!isRead || returning === undefined) return
    returning.accept(true)
    returning.send({ ...live, payload: '1', messageId: 1 }, { ...live, payload: '2', messageId: 2 })
  }
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'subscribe' && isRetained(peer)) {
      broker.peers.findLast(isSubscriber)!.close()
      isLost = true
      peer.send(
        { cmd: 'suback', messageId: packet.messageId!, granted: [1] },
        { ...live, payload: '2', messageId: 1, retain: true },
      )
    } else if (packet.cmd === 'unsubscribe' && isRetained(peer)) {
      peer.send({ cmd: 'unsuback', messageId: packet.messageId!, granted: [0] })
      isRead = true
      comeBack()
    } else if (packet.cmd === 'connect' && isLost && isSubscriber(peer)) {
      returning = peer
      comeBack()
    } else return false
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  const events = [await stream.next()]
  // On a machine so busy that this takes more than a second, the stream begins without the retained message, and says so.
  if (events[0]!.event === 'gap') expect(events.pop()!.data).toEqual({ reason: 'retained-unknown' })
  events.push(...(await stream.take(4 - events.length)))
  expect(events.map(({ event, data: { payload, retain } }) => [event, payload, retain])).toEqual([
    ['status', undefined, undefined],
    ['status', undefined, undefined],
    ['message', '1', false],
    ['message', '2', false],
  ])
})

test('a stream that loses messages while it is opened starts again after them', async () => {
  let isLost = false
  let answer = (): void => {}
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'subscribe' && isRetained(peer)) {
      answer = () =>
        peer.send(
          { cmd: 'suback', messageId: packet.messageId!, granted: [1] },
          { ...live, payload: '2', messageId: 1, retain: true },
        )
      if (isLost) answer()
      else {
        const subscriber = broker.peers.findLast(isSubscriber)!
        subscriber.send({ ...live, payload: '1', messageId: 1 })
        subscriber.close()
        isLost = true
      }
    } else if (packet.cmd === 'connect' && isLost && isSubscriber(peer)) peer.accept(false)
    else if (packet.cmd === 'subscribe' && isLost) {
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
      answer()
    } else return false
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  broker.peers.findLast(isSubscriber)!.send({ ...live, payload: '3', messageId: 1 })
  expect((await stream.take(2)).map(({ event, data: { payload, retain } }) => [event, payload, retain])).toEqual([
    ['message', '2', true],
    ['message', '3', false],
  ])
})
