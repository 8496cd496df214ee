import { expect, test } from 'vitest'
import { Lane } from '../../../src/mqtt/publish/publish-queue.ts'
import type { Message } from '../../../src/mqtt/message.ts'
import type { NetworkConnection } from '../../../src/mqtt/client/network-connection.ts'
import { capabilitiesOf } from '../../../src/mqtt/client/packets.ts'

const capabilities = capabilitiesOf({ cmd: 'connack', sessionPresent: false }, 5)
const message = (topic: string): Message => ({ topic, payload: Buffer.from('x'), qos: 0, retain: false })

/** A lane on a connection that keeps what it is given. */
function laneOn(): { lane: Lane; given: string[]; connect: () => void } {
  const given: string[] = []
  const network = { writable: true, publish: ({ topic }: Message) => void given.push(topic) } as unknown as NetworkConnection
  const lane = new Lane({ maxInFlight: 10, maxInFlightBytes: 1000, timeoutMs: 60_000 })
  const connect = () => lane.connected(network, capabilities, true)
  connect()
  return { lane, given, connect }
}

test('a publish at QoS 0 has succeeded once it is with the socket, not before', async () => {
  const { lane, given } = laneOn()
  let isAnswered = false
  const result = lane.publish(message('a')).finally(() => (isAnswered = true))
  await new Promise(setImmediate)
  expect([given, isAnswered, lane.inFlight]).toEqual([['a'], false, 1])
  lane.flushed()
  expect(await result).toMatchObject({ topic: 'a', qos: 0, reasonCode: null, matchedSubscribers: null })
  expect(lane.inFlight).toBe(0)
})

test('what a lost connection did not write any more goes over the next one, ahead of what came later', async () => {
  const { lane, given, connect } = laneOn()
  const results = ['a', 'b'].map((topic) => lane.publish(message(topic)))
  lane.lost()
  results.push(lane.publish(message('c')))
  connect()
  expect(given).toEqual(['a', 'b', 'a', 'b', 'c'])
  lane.flushed()
  expect((await Promise.all(results)).map(({ topic }) => topic)).toEqual(['a', 'b', 'c'])
})

test('a QoS 2 message that a broker takes no more gives its identifier up at the broker, where the next message would pass for its copy', async () => {
  const released: number[] = []
  const network = { writable: true, publish: () => {}, release: (id: number) => void released.push(id) } as unknown as NetworkConnection
  const lane = new Lane({ maxInFlight: 10, maxInFlightBytes: 1000, timeoutMs: 60_000 })
  lane.connected(network, capabilities, true)
  const result = lane.publish({ ...message('a'), qos: 2 })
  lane.lost()
  lane.connected(network, { ...capabilities, maximumQoS: 1 }, true)
  await expect(result).rejects.toMatchObject({ kind: { code: 'publish-interrupted' }, details: { outcome: 'unknown' } })
  expect(released).toEqual([1])
})
