import { expect, test } from 'vitest'
import { PublishQueue } from '../../../src/mqtt/publish/publish-queue.ts'
import type { Message } from '../../../src/mqtt/message.ts'
import type { NetworkConnection } from '../../../src/mqtt/client/network-connection.ts'
import { capabilitiesOf } from '../../../src/mqtt/client/packets.ts'

const capabilities = capabilitiesOf({ cmd: 'connack', sessionPresent: false }, 5)
const message = (topic: string): Message => ({ topic, payload: Buffer.from('x'), qos: 0, retain: false })

/** A queue on a connection that keeps what it is given. */
function laneOn(): { queue: PublishQueue; given: string[]; connect: () => void } {
  const given: string[] = []
  const network = {
    writable: true,
    publish: ({ topic }: Message) => void given.push(topic),
  } as unknown as NetworkConnection
  const queue = new PublishQueue({ maxInFlight: 10, maxInFlightBytes: 1000, timeoutMs: 60_000 })
  const connect = () => queue.connected(network, capabilities, true)
  connect()
  return { queue, given, connect }
}

test('a publish at QoS 0 has succeeded once it is with the socket, not before', async () => {
  const { queue, given } = laneOn()
  let isAnswered = false
  const result = queue.publish(message('a')).finally(() => (isAnswered = true))
  await new Promise(setImmediate)
  expect([given, isAnswered, queue.inFlight]).toEqual([['a'], false, 1])
  queue.flushed()
  expect(await result).toMatchObject({ topic: 'a', qos: 0, reasonCode: null, matchedSubscribers: null })
  expect(queue.inFlight).toBe(0)
})

test('what a lost connection did not write any more goes over the next one, ahead of what came later', async () => {
  const { queue, given, connect } = laneOn()
  const results = ['a', 'b'].map((topic) => queue.publish(message(topic)))
  queue.lost()
  results.push(queue.publish(message('c')))
  connect()
  expect(given).toEqual(['a', 'b', 'a', 'b', 'c'])
  queue.flushed()
  expect((await Promise.all(results)).map(({ topic }) => topic)).toEqual(['a', 'b', 'c'])
})

test('a QoS 2 message that a broker takes no more gives its identifier up at the broker, where the next message would pass for its copy', async () => {
  const released: number[] = []
  const network = {
    writable: true,
    publish: () => {},
    release: (id: number) => void released.push(id),
  } as unknown as NetworkConnection
  const queue = new PublishQueue({ maxInFlight: 10, maxInFlightBytes: 1000, timeoutMs: 60_000 })
  queue.connected(network, capabilities, true)
  const result = queue.publish({ ...message('a'), qos: 2 })
  queue.lost()
  queue.connected(network, { ...capabilities, maximumQoS: 1 }, true)
  await expect(result).rejects.toMatchObject({ kind: { code: 'publish-interrupted' }, details: { outcome: 'unknown' } })
  expect(released).toEqual([1])
})
