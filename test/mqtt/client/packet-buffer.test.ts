import { type Packet, writeToStream } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { PacketBuffer } from '../../../src/mqtt/client/packet-buffer.ts'

const publish = (fields: object) =>
  ({ cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId: 1, dup: false, retain: false, ...fields }) as Packet

test.each([
  ['topic', { topic: 'x'.repeat(65_536) }],
  ['packet identifier', { messageId: 65_536 }],
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
