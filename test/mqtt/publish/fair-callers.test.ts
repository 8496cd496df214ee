import { expect, onTestFinished, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { Broker } from '../../../src/mqtt/connection/broker.ts'
import { metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { openBatch } from '../../support/ndjson.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'
import { Publisher } from '../../../src/mqtt/publish/publisher.ts'

const line = '{"topic":"a"}\n'

/** A broker that acknowledges no publish between `hold` and `answer`. */
async function holdingBroker() {
  let isHolding = false
  const topics: string[] = []
  const held: (() => void)[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
    topics.push(packet.topic)
    if (!isHolding) return false
    held.push(() => peer.send({ cmd: 'puback', messageId: packet.messageId! }))
    return true
  })
  return {
    ...broker,
    topics,
    hold: () => void (isHolding = true),
    answer() {
      isHolding = false
      for (const release of held.splice(0)) release()
    },
  }
}

test('batches leave room for single publishes', async () => {
  const broker = await holdingBroker()
  const bridge = await startBridge({
    MQTT_URL: broker.url,
    PUBLISH_CONNECTIONS: 1,
    PUBLISH_MAX_IN_FLIGHT: 100,
    PUBLISH_TIMEOUT_MS: 60_000,
  })
  // How fast the broker is has to be known, or batches wait for the first acknowledgement.
  expect((await publish(bridge, { topic: 'b' })).status).toBe(200)
  broker.hold()
  const batches = [openBatch(bridge.url), openBatch(bridge.url), openBatch(bridge.url)]
  for (const batch of batches) batch.send(line.repeat(100))
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(75)
  const single = publish(bridge, { topic: 'b' })
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(76)
  broker.answer()
  expect((await single).status).toBe(200)
  for (const batch of batches) {
    batch.end()
    expect((await batch.rest()).filter(({ status }) => status === 200)).toHaveLength(100)
  }
})

/** A publisher with one connection of 40 places, of which 20 are on the wire at a time. */
async function startPublisher(broker: { url: string }): Promise<Publisher> {
  const connections = new Broker({
    servers: [{ url: broker.url, username: undefined, password: undefined }],
    protocol: '5',
    endpoint: () => ({ keepaliveS: 60, maxPacketBytes: 1e6, connectTimeoutMs: 5000 }),
  })
  const publisher = new Publisher({
    connections: 1,
    maxInFlight: 40,
    maxInFlightBytes: 1e6,
    waitMaxMs: 600_000,
    timeoutMs: 60_000,
    connection: () => ({ broker: connections, role: 'publish' as const, clientId: 'test-publish-0' }),
    observe: () => {},
  })
  onTestFinished(() => publisher.close())
  await publisher.attempted()
  return publisher
}

const messageOf = (topic: string) => ({ topic, payload: Buffer.alloc(0), qos: 1 as const, retain: false })

test('callers whose batches wait take turns', async () => {
  const broker = await holdingBroker()
  broker.hold()
  const memory = new MemoryAccount({ totalBytes: 1e8 })
  const publisher = await startPublisher(broker)
  const send = (caller: string, count: number) =>
    Array.from({ length: count }, () => publisher.publishWhenRoom(messageOf(caller), memory.shareOf(caller)))
  const greedy = send('greedy', 200)
  const polite = send('polite', 10)
  await expect.poll(() => broker.topics.length).toBe(20)
  broker.answer()
  await Promise.all(polite)
  // 30 of the greedy caller were there first; from then on both take turns.
  expect(broker.topics.slice(20, 50).filter((topic) => topic === 'polite')).toHaveLength(10)
  await Promise.all(greedy)
  expect(memory.heldBytes).toBe(0)
})

test('a caller that has filled the room makes way for others, whose messages go first in turn', async () => {
  const broker = await holdingBroker()
  broker.hold()
  const memory = new MemoryAccount({ totalBytes: 1e8 })
  const publisher = await startPublisher(broker)
  const send = (caller: string, count: number) =>
    Array.from({ length: count }, () => publisher.publish(messageOf(caller), memory.shareOf(caller)))
  const greedy = send('greedy', 40)
  await expect.poll(() => broker.topics.length).toBe(20)
  await expect(publisher.publish(messageOf('greedy'), memory.shareOf('greedy'))).rejects.toThrow('already wait')
  const polite = send('polite', 3)
  const results = Promise.allSettled(greedy)
  await expect(greedy.at(-1)).rejects.toMatchObject({ kind: { code: 'overloaded' }, details: { outcome: 'not-sent' } })
  broker.answer()
  await Promise.all(polite)
  expect(broker.topics.slice(20, 26)).toEqual(['greedy', 'polite', 'greedy', 'polite', 'greedy', 'polite'])
  // The newest three that were not sent, and no more than were needed.
  expect((await results).map(({ status }) => status)).toEqual([
    ...Array(37).fill('fulfilled'),
    ...Array(3).fill('rejected'),
  ])
  expect(memory.heldBytes).toBe(0)
})

test('messages of a batch do not make way: they wait for room themselves', async () => {
  const broker = await holdingBroker()
  broker.hold()
  const memory = new MemoryAccount({ totalBytes: 1e8 })
  const publisher = await startPublisher(broker)
  const batch = Array.from({ length: 40 }, () => publisher.publishWhenRoom(messageOf('batch'), memory.shareOf('batch')))
  await expect.poll(() => broker.topics.length).toBe(20)
  const singles = Array.from({ length: 10 }, () => publisher.publish(messageOf('one'), memory.shareOf('one')))
  await expect(publisher.publish(messageOf('one'), memory.shareOf('one'))).rejects.toThrow('already wait')
  broker.answer()
  await Promise.all([...batch, ...singles])
})

test('a batch that waits when the broker goes is answered at once', async () => {
  const broker = await holdingBroker()
  const bridge = await startBridge({
    MQTT_URL: broker.url,
    PUBLISH_CONNECTIONS: 1,
    PUBLISH_MAX_IN_FLIGHT: 20,
    PUBLISH_TIMEOUT_MS: 600_000,
  })
  broker.hold()
  const batch = openBatch(bridge.url)
  batch.send(line.repeat(60))
  await expect.poll(() => broker.topics.length).toBe(20)
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(20)
  // The first 20 are in flight and stay so. The broker does not come back, and 40 wait for a place.
  const other = openBatch(bridge.url)
  other.send(line.repeat(3))
  other.end()
  broker.stop()
  const results = await other.rest()
  expect(results.slice(0, 3)).toMatchObject(Array(3).fill({ problem: { code: 'broker-unavailable', status: 503 } }))
})
