import fc from 'fast-check'
import { generate, type Packet } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { forEachAcknowledgement, isAcknowledgements } from '../../../src/mqtt/client/acknowledgements.ts'
import type { Acknowledgement } from '../../../src/mqtt/client/packets.ts'
import { acceptAllReasonCodes } from '../../../src/mqtt/client/reason-code-tables.ts'
import { parsePackets } from '../../support/parse-packets.ts'

acceptAllReasonCodes()

const acknowledgement = fc.record({
  cmd: fc.constantFrom('puback' as const, 'pubrec' as const, 'pubcomp' as const),
  messageId: fc.integer({ min: 1, max: 65_535 }),
  reasonCode: fc.constantFrom(0, 0x10, 0x87, 0xff),
})
const protocol = fc.constantFrom(4 as const, 5 as const)

function read(bytes: Buffer): Acknowledgement[] {
  const packets: Acknowledgement[] = []
  forEachAcknowledgement(bytes, (packet) => packets.push(packet))
  return packets
}

test('whole acknowledgements are read as mqtt-packet reads them', () => {
  fc.assert(
    fc.property(protocol, fc.array(acknowledgement, { minLength: 1 }), (protocolVersion, packets) => {
      const bytes = Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion })))
      expect(isAcknowledgements(bytes)).toBe(true)
      expect(read(bytes)).toEqual(
        parsePackets(bytes, protocolVersion).map((packet) => {
          const { cmd, messageId, reasonCode = 0 } = packet as Acknowledgement
          return { cmd, messageId, reasonCode }
        }),
      )
    }),
  )
})

test('a reason code of 0 may be left out, and an empty Property Length may be there', () => {
  const bytes = Buffer.from([0x40, 2, 0, 1, 0x50, 3, 0, 2, 0x10, 0x70, 4, 0, 3, 0x92, 0])
  expect(isAcknowledgements(bytes)).toBe(true)
  expect(read(bytes)).toEqual([
    { cmd: 'puback', messageId: 1, reasonCode: 0 },
    { cmd: 'pubrec', messageId: 2, reasonCode: 0x10 },
    { cmd: 'pubcomp', messageId: 3, reasonCode: 0x92 },
  ])
})

test('a chunk that ends in the middle of a packet is left to MQTT.js', () => {
  fc.assert(
    fc.property(fc.array(acknowledgement, { minLength: 1 }), fc.integer({ min: 1, max: 3 }), (packets, missing) => {
      const bytes = Buffer.concat(packets.map((packet) => generate(packet, { protocolVersion: 5 })))
      expect(isAcknowledgements(bytes.subarray(0, -missing))).toBe(false)
    }),
  )
})

test.each<[string, Packet]>([
  ['a reason string', { cmd: 'puback', messageId: 1, reasonCode: 0x87, properties: { reasonString: 'no' } }],
  ['PUBREL', { cmd: 'pubrel', messageId: 1, reasonCode: 0 }],
  ['PINGRESP', { cmd: 'pingresp' }],
  ['SUBACK', { cmd: 'suback', messageId: 1, granted: [0] }],
  ['DISCONNECT', { cmd: 'disconnect', reasonCode: 0x8e }],
  ['a message', { cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId: 1, dup: false, retain: false }],
])('a chunk with %s is left to MQTT.js', (_name, packet) => {
  const puback = generate({ cmd: 'puback', messageId: 7, reasonCode: 0 }, { protocolVersion: 5 })
  const other = generate(packet, { protocolVersion: 5 })
  expect(isAcknowledgements(other)).toBe(false)
  expect(isAcknowledgements(Buffer.concat([puback, other]))).toBe(false)
})
