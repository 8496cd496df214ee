import { expect, onTestFinished, test, vi } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { PublishQueue } from '../../../src/mqtt/publish/publish-queue.ts'
import type { Connection } from '../../../src/mqtt/connection.ts'
import { type Message, sizeOf } from '../../../src/mqtt/message.ts'
import type { NetworkConnection } from '../../../src/mqtt/client/network-connection.ts'
import { capabilitiesOf } from '../../../src/mqtt/client/packets.ts'

const capabilities = capabilitiesOf({ cmd: 'connack', sessionPresent: false }, 5)
const message = (topic: string): Message => ({ topic, payload: Buffer.from('x'), qos: 0, retain: false })

/** A queue whose network connections record what is published on them, and the identifiers that are released. */
function startQueue() {
  const published: string[] = []
  const released: number[] = []
  const network = {
    writable: true,
    publish: ({ topic }: Message) => void published.push(topic),
    release: (id: number) => void released.push(id),
  } as unknown as NetworkConnection
  const memory = new MemoryAccount({ totalBytes: 1_000_000 })
  let discarded = 0
  const connection: Partial<Pick<Connection, 'network' | 'capabilities' | 'discardSession'>> = {
    discardSession: () => void (discarded += 1),
  }
  const limits = { maxInFlight: 10, maxInFlightBytes: 1000, waitMaxMs: 60_000, timeoutMs: 60_000 }
  const queue = new PublishQueue(limits, [false, false, false], () => connection as Connection)
  const publish = (sent: Message) => queue.publish(sent, memory.shareOf('a'))
  const connect = (supported = capabilities) => {
    Object.assign(connection, { network, capabilities: supported })
    queue.connected(network, supported, true)
  }
  const lose = () => {
    Object.assign(connection, { network: undefined })
    queue.lost()
  }
  connect()
  return { queue, publish, network, memory, published, released, discarded: () => discarded, connect, lose }
}

test('a QoS 0 publish succeeds once it is with the socket, not before', async () => {
  const { queue, publish, published } = startQueue()
  let isAnswered = false
  const result = publish(message('a')).finally(() => (isAnswered = true))
  await new Promise(setImmediate)
  expect([published, isAnswered, queue.inFlight]).toEqual([['a'], false, 1])
  queue.flushed()
  expect(await result).toMatchObject({ topic: 'a', qos: 0, reasonCode: null, matchedSubscribers: null })
  expect(queue.inFlight).toBe(0)
})

test('QoS 0 publishes that a lost connection did not write are sent on the next one, before later ones', async () => {
  const { queue, publish, published, connect, lose } = startQueue()
  const results = ['a', 'b'].map((topic) => publish(message(topic)))
  lose()
  results.push(publish(message('c')))
  connect()
  expect(published).toEqual(['a', 'b', 'a', 'b', 'c'])
  queue.flushed()
  expect((await Promise.all(results)).map(({ topic }) => topic)).toEqual(['a', 'b', 'c'])
})

test('a QoS 2 message that cannot be sent again has its identifier released at the broker', async () => {
  const { publish, released, connect, lose } = startQueue()
  const result = publish({ ...message('a'), qos: 2 })
  lose()
  connect({ ...capabilities, maximumQoS: 1 })
  await expect(result).rejects.toMatchObject({ kind: { code: 'publish-interrupted' }, details: { outcome: 'unknown' } })
  expect(released).toEqual([1])
})

test('a message is held until its bytes are gone, also when its caller has long got the answer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const { queue, publish, network, memory, lose, connect } = startQueue()
  const held = () => memory.byPurpose.publishes
  const size = sizeOf(message('a'))

  const timedOut = publish({ ...message('a'), qos: 1 })
  timedOut.catch(() => {})
  await vi.advanceTimersByTimeAsync(60_000)
  await expect(timedOut).rejects.toMatchObject({ kind: { code: 'acknowledgement-timeout' } })
  expect([queue.inFlight, held()]).toEqual([0, size])
  queue.acknowledged({ cmd: 'puback', messageId: 1 })
  expect(held()).toBe(0)

  // At QoS 0 the socket may keep the bytes behind the answer.
  const buffered = publish(message('a'))
  Object.assign(network, { writable: false })
  queue.flushed()
  await buffered
  expect(held()).toBe(size)
  Object.assign(network, { writable: true })
  queue.drained()
  expect(held()).toBe(0)

  const lost = [publish({ ...message('a'), qos: 1 }), publish({ ...message('a'), qos: 2 })]
  lose()
  connect()
  lose()
  await Promise.allSettled(lost)
  for (let times = 0; times < 3; times += 1) {
    connect()
    lose()
  }
  expect([held(), memory.heldBytes]).toEqual([0, 0])
})

test('a QoS 2 message that the broker does not let go of ends with a new session', async () => {
  const { publish, released, discarded, connect, lose } = startQueue()
  const result = publish({ ...message('a'), qos: 2 })
  for (let times = 0; times < 2; times += 1) {
    lose()
    connect()
  }
  await expect(result).rejects.toMatchObject({ kind: { code: 'publish-interrupted' } })
  expect([released, discarded()]).toEqual([[1], 0])
  lose()
  expect(discarded()).toBe(1)
})

test('PUBREC 0x91 is answered with PUBREL, so that the identifier becomes free at the broker', async () => {
  const { queue, publish, released } = startQueue()
  const result = publish({ ...message('a'), qos: 2 })
  queue.acknowledged({ cmd: 'pubrec', messageId: 1, reasonCode: 0x91 })
  await expect(result).rejects.toMatchObject({ kind: { code: 'broker-refused' } })
  expect(released).toEqual([1])
})
