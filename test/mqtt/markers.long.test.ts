import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { startCuttingProxy } from '../support/cutting-proxy.ts'
import { get, publish, publishRaw } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

const live = { cmd: 'publish', topic: 'a', qos: 1, retain: false, dup: false } as const
const isRetained = ({ connect }: Peer): boolean => connect?.clientId.endsWith('-retained') === true

describe.skipIf(!hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test('a stream does not wait for what comes on other topics, and no reader gets a marker', async () => {
    const broker = await startMosquitto()
    let pings = 0
    const proxy = await startCuttingProxy(broker.url, (direction, packet, connect) => {
      if (direction === 'up' && packet.cmd === 'pingreq' && connect?.clientId.includes('-subscribe-')) pings += 1
      return undefined
    })
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    await publishRaw(bridge, 'topic=a&retain=true', 'x')
    const outside = await mqttClient(broker.url)
    const everything = await openStream(`${bridge.url}/subscribe?topic=%23&retained=false`)
    let isBusy = true
    const traffic = (async () => {
      while (isBusy) {
        await Promise.all(Array.from({ length: 30 }, () => outside.publishAsync('busy', 'x', { qos: 1 })))
        await everything.take(30)
      }
    })()
    pings = 0
    for (let opened = 0; opened < 5; opened += 1) {
      const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
      expect((await stream.next()).data).toMatchObject({ payload: 'x', retain: true })
      stream.close()
    }
    isBusy = false
    await traffic
    // Before, each waited for at least three round trips, with few messages, on the connection that all streams share.
    expect(pings).toBeLessThan(5)
    expect(everything.events.every(({ data }) => data.topic === 'busy')).toBe(true)
    everything.close()
    await expectNothingLeft(bridge)
  })

  test('the reader of a session gets none either', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=%23&session=s&ack=auto`)
    expect(stream.status).toBe(200)
    for (let reads = 0; reads < 3; reads += 1) expect((await get(bridge, '/retained?topic=a')).status).toBe(404)
    await publish(bridge, { topic: 'a', payload: 'x' })
    await expect.poll(() => stream.events.at(-1)?.data.payload).toBe('x')
    expect(stream.events.filter(({ event }) => event === 'message')).toHaveLength(1)
  })

  test('retained messages are read where the broker refuses markers', async () => {
    const broker = await startMosquitto({ acl: ['topic readwrite a/#'] })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    await publishRaw(bridge, 'topic=a/1&retain=true', 'x')
    expect((await get(bridge, '/retained?topic=a/1')).body).toBe('x')
    expect((await get(bridge, '/retained?topic=a/2')).status).toBe(404)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/%23`)
    expect((await stream.next()).data).toMatchObject({ payload: 'x', retain: true })
    await publish(bridge, { topic: 'a/1', payload: 'live' })
    expect((await stream.next()).data).toMatchObject({ payload: 'live' })
    // At most two connections were lost over the first marker.
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="retained"}')).toBeLessThanOrEqual(2)
  })
})

test('a broker whose retained messages come behind the marker is waited for', async () => {
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'subscribe' || !isRetained(peer)) return false
      peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
      for (const [index, topic] of ['a/1', 'a/2', 'a/3'].entries()) {
        setTimeout(
          () => peer.send({ ...live, topic, payload: 'x', messageId: index + 1, retain: true }),
          100 + 60 * index,
        )
      }
      return true
    },
    { lateRetained: true },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const { body } = await get(bridge, '/retained?topic=a/%2B')
  expect(body.map(({ topic }: { topic: string }) => topic)).toEqual(['a/1', 'a/2', 'a/3'])
})

test('a read is a 504 where such a broker does not show whether there is a message', async () => {
  let isSilent = false
  const broker = await startScriptedBroker(() => false, { lateRetained: () => !isSilent })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 500 })
  expect((await get(bridge, '/retained?topic=a')).status).toBe(404)
  isSilent = true
  expect((await get(bridge, '/retained?topic=a')).status).toBe(504)
})

test('a filter with wildcards is a 501 where the broker serves retained messages for exact topics only', async () => {
  const broker = await startScriptedBroker(() => false, { retainedWildcards: false })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  for (const path of ['/retained?topic=a/%23', '/subscribe?topic=a/%2B']) {
    expect(await get(bridge, path)).toMatchObject({
      status: 501,
      body: { code: 'retained-wildcards-not-supported', retryable: false },
    })
  }
  expect((await get(bridge, '/retained?topic=a')).status).toBe(404)
  expect((await openStream(`${bridge.url}/subscribe?topic=a/%2B&retained=false`)).status).toBe(200)
})

test('a slow link may take as long as it likes, as long as anything comes', async () => {
  const timeoutMs = 400
  const count = 8
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || !isRetained(peer)) return false
    peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
    peer.hold()
    for (let index = 1; index <= count; index += 1) {
      setTimeout(
        () => {
          peer.sendNow({ ...live, topic: `a/${index}`, payload: 'x', messageId: index, retain: true })
          if (index === count) peer.flow()
        },
        (index * timeoutMs) / 2,
      )
    }
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: timeoutMs })
  expect((await get(bridge, '/retained?topic=a/%2B')).body).toHaveLength(count)
})

test('a stream is opened after a second at the latest, and gets its beginning once it is there', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || !isRetained(peer)) return false
    peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
    peer.sendNow({ ...live, payload: 'retained', messageId: 1, retain: true })
    peer.hold()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  expect(stream.status).toBe(200)
  const subscriber = broker.peers.findLast(({ connect }) => connect?.clientId.endsWith('-subscribe-0'))!
  subscriber.send({ ...live, payload: 'live', messageId: 1 })
  broker.peers.findLast(isRetained)!.flow()
  expect((await stream.take(2)).map(({ data }) => [data.payload, data.retain])).toEqual([
    ['retained', true],
    ['live', false],
  ])
  stream.close()
  await expectNothingLeft(bridge)
})

describe.each(BROKERS)('on $name', ({ start }) => {
  test('a stream of # at QoS 0 begins with its retained messages, and so does another one beside it', async () => {
    const bridge = await startBridge(await start())
    await publishRaw(bridge, 'topic=a/1&retain=true', 'x')
    // One copy of each marker may come for both filters, at the lower QoS.
    for (const query of ['topic=%23&qos=0', 'topic=a/%2B', 'topic=%23&qos=0', 'topic=%23&topic=%2B/1']) {
      const stream = await openStream(`${bridge.url}/subscribe?${query}`)
      expect((await stream.next()).data).toMatchObject({ topic: 'a/1', retain: true })
    }
    expect((await get(bridge, '/retained?topic=%23')).body).toHaveLength(1)
  })
})
