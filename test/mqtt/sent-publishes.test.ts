import fc from 'fast-check'
import { expect, test } from 'vitest'
import { InFlight } from '../../src/mqtt/in-flight.ts'
import { SentPublishes } from '../../src/mqtt/sent-publishes.ts'

function publish(): InFlight {
  const entry = new InFlight({ topic: 'a', payload: Buffer.alloc(0), qos: 1, retain: false }, 60_000, { settled: () => {}, timedOut: () => {} })
  // Its timer would keep the test waiting.
  entry.succeed(undefined)
  return entry
}

test('an identifier in use is never given again, and the order is that of sending, however often identifiers have gone round', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(fc.option(fc.nat()), { maxLength: 200 }), (max, steps) => {
      const sent = new SentPublishes(max)
      const expected: InFlight[] = []
      for (const step of steps) {
        // A number answers one of those there are, the others none.
        if (step !== null && expected.length > 0) {
          const [answered] = expected.splice(step % expected.length, 1)
          sent.delete(answered!)
          expect(sent.get(answered!.id)).toBeUndefined()
        } else if (expected.length < max) {
          const entry = publish()
          sent.add(entry)
          expected.push(entry)
          expect(entry.id).toBeGreaterThan(0)
        }
        expect(sent.size).toBe(expected.length)
        expect(sent.list()).toEqual(expected)
        expect(new Set(expected.map(({ id }) => id)).size).toBe(expected.length)
        for (const entry of expected) expect(sent.get(entry.id)).toBe(entry)
      }
    }),
  )
})

test('an identifier is used again only once as many others were', () => {
  const sent = new SentPublishes(10)
  const ids = Array.from({ length: 20 }, () => {
    const entry = publish()
    sent.add(entry)
    sent.delete(entry)
    return entry.id
  })
  expect(new Set(ids).size).toBe(20)
})

test('65,535 is the last identifier there is', () => {
  const sent = new SentPublishes(65_535)
  const ids = new Set<number>()
  for (let count = 0; count < 65_540; count += 1) {
    const entry = publish()
    sent.add(entry)
    sent.delete(entry)
    ids.add(entry.id)
  }
  expect([Math.min(...ids), Math.max(...ids), ids.size]).toEqual([1, 65_535, 65_535])
})
