import { expect, test } from 'vitest'
import { PublishQueue } from '../../../src/mqtt/publish/publish-queue.ts'
import type { Connection } from '../../../src/mqtt/connection.ts'
import type { Message } from '../../../src/mqtt/message.ts'
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
  const connection: Partial<Pick<Connection, 'network' | 'capabilities'>> = {}
  const limits = { maxInFlight: 10, maxInFlightBytes: 1000, timeoutMs: 60_000 }
  const queue = new PublishQueue(limits, () => connection as Connection)
  const connect = (supported = capabilities) => {
    Object.assign(connection, { network, capabilities: supported })
    queue.connected(network, supported, true)
  }
  const lose = () => {
    Object.assign(connection, { network: undefined })
    queue.lost()
  }
  connect()
  return { queue, published, released, connect, lose }
}

test('a QoS 0 publish succeeds once it is with the socket, not before', async () => {
  const { queue, published } = startQueue()
  let isAnswered = false
  const result = queue.publish(message('a')).finally(() => (isAnswered = true))
  await new Promise(setImmediate)
  expect([published, isAnswered, queue.inFlight]).toEqual([['a'], false, 1])
  queue.flushed()
  expect(await result).toMatchObject({ topic: 'a', qos: 0, reasonCode: null, matchedSubscribers: null })
  expect(queue.inFlight).toBe(0)
})

test('QoS 0 publishes that a lost connection did not write are sent on the next one, before later ones', async () => {
  const { queue, published, connect, lose } = startQueue()
  const results = ['a', 'b'].map((topic) => queue.publish(message(topic)))
  lose()
  results.push(queue.publish(message('c')))
  connect()
  expect(published).toEqual(['a', 'b', 'a', 'b', 'c'])
  queue.flushed()
  expect((await Promise.all(results)).map(({ topic }) => topic)).toEqual(['a', 'b', 'c'])
})

test('a QoS 2 message that cannot be sent again has its identifier released at the broker', async () => {
  const { queue, released, connect, lose } = startQueue()
  const result = queue.publish({ ...message('a'), qos: 2 })
  lose()
  connect({ ...capabilities, maximumQoS: 1 })
  await expect(result).rejects.toMatchObject({ kind: { code: 'publish-interrupted' }, details: { outcome: 'unknown' } })
  expect(released).toEqual([1])
})
