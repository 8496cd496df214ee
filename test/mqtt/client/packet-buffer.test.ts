import fc from 'fast-check'
import { generate, type Packet, writeToStream } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { PacketBuffer } from '../../../src/mqtt/client/packet-buffer.ts'

const publish = (fields: object) =>
  ({ cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId: 1, dup: false, retain: false, ...fields }) as Packet

test.each([
  ['topic', { topic: 'x'.repeat(65_536) }],
  ['topic of a buffer', { topic: 'x'.repeat(65_536), payload: Buffer.from('x') }],
  ['packet identifier', { messageId: 65_536 }],
  ['packet identifier of a buffer', { messageId: 65_536, payload: Buffer.from('x') }],
  ['user property', { properties: { userProperties: { a: 'x'.repeat(65_536) } } }],
])('of a packet whose %s is too large nothing is written', (_name, fields) => {
  const buffer = new PacketBuffer(5)
  expect(() => buffer.add(publish(fields))).toThrow('The packet has a value that MQTT cannot write')
  expect(buffer.isEmpty).toBe(true)
  buffer.add(publish({ messageId: 65_535 }))
  expect(buffer.take().toString('hex')).toBe('3207000161ffff0078')
})

test('mqtt-packet makes no table of 65,536 buffers', () => {
  expect((writeToStream as unknown as { cacheNumbers: boolean }).cacheNumbers).toBe(false)
})

test('packets have the same bytes as those of mqtt-packet', () => {
  const published = fc.record({
    cmd: fc.constant('publish' as const),
    topic: fc.string({ minLength: 1, unit: 'binary', size: 'medium' }).filter((topic) => topic.isWellFormed()),
    payload: fc.oneof(
      fc.uint8Array({ size: 'large' }).map((bytes) => Buffer.from(bytes)),
      // Around the lengths at which the Remaining Length has a byte more.
      fc.constantFrom(110, 127, 128, 16_370, 16_383, 16_384).map((length) => Buffer.alloc(length, 'x')),
    ),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
    messageId: fc.integer({ min: 1, max: 65_535 }),
    dup: fc.boolean(),
    retain: fc.boolean(),
    properties: fc.constantFrom(undefined, { contentType: 'text/plain' }),
  })
  const released = fc.record({ cmd: fc.constant('pubrel' as const), messageId: fc.integer({ min: 1, max: 65_535 }) })
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 5 as const),
      fc.array(fc.oneof(published, released), { minLength: 1 }),
      (protocolVersion, packets) => {
        const buffer = new PacketBuffer(protocolVersion)
        const expected = packets.map((packet) => {
          if (packet.cmd === 'pubrel') {
            buffer.addPubrel(packet.messageId)
            return generate({ ...packet, reasonCode: 0 }, { protocolVersion })
          }
          const { properties, ...plain } = packet
          const sent = properties === undefined || protocolVersion === 4 ? plain : { ...plain, properties }
          buffer.add(sent as Packet)
          return generate(sent as Packet, { protocolVersion })
        })
        expect(buffer.take().toString('hex')).toBe(Buffer.concat(expected).toString('hex'))
        expect(buffer.isEmpty).toBe(true)
      },
    ),
  )
})
