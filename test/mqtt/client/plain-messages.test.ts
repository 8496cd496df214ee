import fc from 'fast-check'
import { generate, type IPublishPacket, type Packet } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { messageFromPacket, subscriptionIdentifiersOf } from '../../../src/mqtt/client/packets.ts'
import { PlainMessages } from '../../../src/mqtt/client/plain-messages.ts'
import type { Message } from '../../../src/mqtt/message.ts'
import { parsePackets } from '../../support/parse-packets.ts'

type Protocol = 4 | 5
type Read = [Message, readonly number[]]

const protocol = fc.constantFrom<Protocol>(4, 5)
const topic = fc.oneof(
  fc.constantFrom('a', 'a/b', '/', 'ä/日本', '$SYS/x', 't'.repeat(200)),
  fc.string({ minLength: 1 }),
)
const identifier = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 268_435_455 }))
const message = fc
  .record({
    topic,
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 0, max: 20_000 }).map((length) => new Uint8Array(length)),
    ),
    retain: fc.boolean(),
    identifiers: fc.array(identifier, { maxLength: 3 }),
  })
  .map(({ identifiers, payload, ...more }) => packetOf({ ...more, payload: Buffer.from(payload) }, identifiers))

function packetOf(more: Partial<IPublishPacket>, identifiers: number[] = []): IPublishPacket {
  const properties = identifiers.length === 0 ? {} : { properties: { subscriptionIdentifier: identifiers as never } }
  return { cmd: 'publish', topic: 'a', payload: 'x', qos: 0, retain: false, dup: false, ...properties, ...more }
}

const bytesOf = (packets: Packet[], protocolVersion: Protocol) =>
  Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion })))

/** What it reads of these chunks, and the bytes that it leaves, with those of all later chunks. */
function read(
  chunks: Buffer[],
  protocolVersion: Protocol,
  maxPacketBytes = 1_000_000,
): { messages: Read[]; rest: Buffer } {
  const messages: Read[] = []
  const plain = new PlainMessages(protocolVersion, maxPacketBytes, (...one) => void messages.push(one))
  let rest: Buffer[] | undefined
  for (const chunk of chunks) {
    if (rest !== undefined) rest.push(chunk)
    else {
      let left = plain.read(chunk)
      while (plain.hasMore) left = plain.read()
      if (left !== undefined) rest = [left]
    }
  }
  return { messages, rest: Buffer.concat(rest ?? []) }
}

/** What mqtt-packet makes of the bytes. */
function parse(bytes: Buffer, protocolVersion: Protocol): Read[] {
  const packets = parsePackets(bytes, protocolVersion) as IPublishPacket[]
  return packets.map((packet) => [messageFromPacket(packet), subscriptionIdentifiersOf(packet)])
}

function cut(bytes: Buffer, cuts: number[]): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0, index = 0; at < bytes.length; index += 1) {
    const next = at + cuts[index % cuts.length]!
    chunks.push(bytes.subarray(at, next))
    at = next
  }
  return chunks
}

const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 30_000 })), { minLength: 1 })

test('messages at QoS 0 are read as mqtt-packet reads them, however the bytes are cut', () => {
  fc.assert(
    fc.property(protocol, fc.array(message), cuts, (protocolVersion, packets, sizes) => {
      const bytes = bytesOf(packets, protocolVersion)
      const { messages, rest } = read(cut(bytes, sizes), protocolVersion)
      const expected = parse(bytes, protocolVersion)
      expect(messages).toEqual(expected.slice(0, messages.length))
      // A large one that comes in pieces is left, and all behind it.
      expect(parse(rest, protocolVersion)).toEqual(expected.slice(messages.length))
      if (packets.every(({ payload }) => payload.length < 10_000)) expect(rest.length).toBe(0)
    }),
  )
})

test.each<[string, Packet]>([
  ['a message at QoS 1', packetOf({ qos: 1, messageId: 1 })],
  ['a message at QoS 2', packetOf({ qos: 2, messageId: 1 })],
  ['DUP', packetOf({ dup: true })],
  ['a content type', packetOf({ properties: { contentType: 'text/plain' } })],
  ['a user property', packetOf({ properties: { userProperties: { a: 'b' } } })],
  ['an expiry behind an identifier', packetOf({ properties: { messageExpiryInterval: 9, subscriptionIdentifier: 7 } })],
  ['a topic alias', packetOf({ topic: '', properties: { topicAlias: 1 } })],
  ['PINGRESP', { cmd: 'pingresp' }],
  ['PUBACK', { cmd: 'puback', messageId: 1, reasonCode: 0 }],
  ['DISCONNECT', { cmd: 'disconnect', reasonCode: 0x8e }],
])('%s is left, with all that comes behind it', (_name, packet) => {
  const before = bytesOf([packetOf({ payload: 'before' })], 5)
  const other = bytesOf([packet, packetOf({ payload: 'behind' })], 5)
  for (const sizes of [[1_000_000], [1], [3]]) {
    const { messages, rest } = read(cut(Buffer.concat([before, other]), sizes), 5)
    expect(messages.map(([{ payload }]) => payload.toString())).toEqual(['before'])
    expect(rest).toEqual(other)
  }
})

test.each<[string, number[]]>([
  ['an empty topic', [0x30, 4, 0, 0, 0, 120]],
  ['a topic that is longer than the packet', [0x30, 5, 0, 9, 97, 0, 120]],
  ['a packet without room for the length of a topic', [0x30, 1, 0]],
  ['a packet without a Property Length', [0x30, 3, 0, 1, 97]],
  ['properties that are longer than the packet', [0x30, 5, 0, 1, 97, 9, 11]],
  ['a subscription identifier of 0', [0x30, 7, 0, 1, 97, 2, 11, 0, 120]],
  ['a subscription identifier that does not end', [0x30, 6, 0, 1, 97, 2, 11, 0x80]],
  ['a subscription identifier of five bytes', [0x30, 10, 0, 1, 97, 6, 11, 0x80, 0x80, 0x80, 0x80, 1]],
  ['a length of five bytes', [0x30, 0x80, 0x80, 0x80, 0x80, 1]],
])('%s is left to MQTT.js, which ends the connection over it', (_name, bytes) => {
  expect(read([Buffer.from(bytes)], 5)).toEqual({ messages: [], rest: Buffer.from(bytes) })
})

test('a packet that is larger than allowed is left, before it is there', () => {
  const bytes = bytesOf([packetOf({ payload: Buffer.alloc(2000) })], 5)
  expect(read([bytes.subarray(0, 3)], 5, 1999).rest).toEqual(bytes.subarray(0, 3))
  expect(read([bytes], 5, bytes.length).messages).toHaveLength(1)
})

test('it says whether it keeps bytes', () => {
  const bytes = bytesOf([packetOf({})], 5)
  const plain = new PlainMessages(5, 1000, () => {})
  expect(plain.keepsBytes).toBe(false)
  plain.read(bytes.subarray(0, 1))
  expect([plain.keepsBytes, plain.hasMore]).toEqual([true, false])
  plain.read(bytes.subarray(1))
  expect(plain.keepsBytes).toBe(false)
})

test('at most a hundred messages are handed over at once, and all in their order', () => {
  const handed: string[] = []
  const plain = new PlainMessages(5, 1000, ({ payload }) => void handed.push(payload.toString()))
  const some = (from: number) =>
    bytesOf(
      Array.from({ length: 250 }, (_, index) => packetOf({ payload: `${from + index}` })),
      5,
    )
  plain.read(some(0))
  expect([handed.length, plain.hasMore]).toEqual([100, true])
  // Another chunk may come before the next tick.
  plain.read(some(250))
  expect([handed.length, plain.hasMore]).toEqual([200, true])
  for (let reads = 0; reads < 3; reads += 1) plain.read()
  expect([handed.length, plain.hasMore, plain.keepsBytes]).toEqual([500, false, false])
  expect(handed).toEqual(Array.from({ length: 500 }, (_, index) => `${index}`))
})
