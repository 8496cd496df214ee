import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { InFlight } from '../../../src/mqtt/publish/in-flight.ts'
import { SentPublishes } from '../../../src/mqtt/publish/sent-publishes.ts'

const share = new MemoryAccount({ totalBytes: 2 ** 30 }).shareOf('a')

function publish(): InFlight {
  const message = { topic: 'a', payload: Buffer.alloc(0), qos: 1 as const, retain: false }
  const one = new InFlight(message, share, 60_000, { settled: () => {}, timedOut: () => {} })
  one.succeed(undefined, false)
  return one
}

test('an identifier in use is never given again, and the order is that of sending', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(fc.option(fc.nat()), { maxLength: 200 }), (max, steps) => {
      const sent = new SentPublishes()
      const expected: InFlight[] = []
      for (const step of steps) {
        // A number: one of those sent is answered, and leaves. null: one more is sent.
        if (step !== null && expected.length > 0) {
          const [answered] = expected.splice(step % expected.length, 1)
          sent.delete(answered!)
          expect(sent.get(answered!.packetId)).toBeUndefined()
        } else if (expected.length < max) {
          const one = publish()
          sent.add(one)
          expected.push(one)
          expect(one.packetId).toBeGreaterThan(0)
        }
        expect(sent.size).toBe(expected.length)
        expect(sent.list()).toEqual(expected)
        expect(new Set(expected.map(({ packetId }) => packetId)).size).toBe(expected.length)
        for (const one of expected) expect(sent.get(one.packetId)).toBe(one)
      }
    }),
  )
})

test('identifiers go from 1 to 65,535 and round again, past those in use, and the order stays that of sending', () => {
  const sent = new SentPublishes()
  const added = (): InFlight => {
    const one = publish()
    sent.add(one)
    return one
  }
  const first = added()
  for (let id = 2; id < 65_535; id += 1) {
    const one = added()
    expect(one.packetId).toBe(id)
    sent.delete(one)
  }
  const rest = [added(), added(), added()]
  expect([first, ...rest].map(({ packetId }) => packetId)).toEqual([1, 65_535, 2, 3])
  expect(sent.list()).toEqual([first, ...rest])
})
