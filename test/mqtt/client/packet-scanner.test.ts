import fc from 'fast-check'
import { generate } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { PacketScanner } from '../../../src/mqtt/client/packet-scanner.ts'

const publish = (payloadBytes: number) =>
  generate({ cmd: 'publish', topic: 'a', payload: Buffer.alloc(payloadBytes), qos: 0, retain: false, dup: false })

test('a size is known once the length is there, before the rest of the packet', () => {
  const scanner = new PacketScanner()
  const whole = publish(100_000)
  expect(scanner.scan(whole.subarray(0, 3))).toBe(0)
  expect(scanner.scan(whole.subarray(3, 4))).toBe(whole.length)
})

test('the largest length there is', () => {
  expect(new PacketScanner().scan(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f))).toBe(268_435_455 + 5)
})

test('every packet is seen once, however the bytes are cut', () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 16_370, max: 16_400 })), {
    minLength: 1,
    maxLength: 8,
  })
  fc.assert(
    fc.property(sizes, fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1 }), (payloads, cuts) => {
      const packets = payloads.map(publish)
      const bytes = Buffer.concat(packets)
      const scanner = new PacketScanner()
      const seen: number[] = []
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const next = at + cuts[turn % cuts.length]!
        seen.push(scanner.scan(bytes.subarray(at, next)))
        at = next
      }
      expect(Math.max(...seen)).toBe(Math.max(...packets.map(({ length }) => length)))
    }),
  )
})
