import fc from 'fast-check'
import { expect, test } from 'vitest'
import { InFlight } from '../../../src/mqtt/publish/in-flight.ts'
import { SentPublishes } from '../../../src/mqtt/publish/sent-publishes.ts'

function publish(): InFlight {
  const entry = new InFlight({ topic: 'a', payload: Buffer.alloc(0), qos: 1, retain: false }, 60_000, {
    settled: () => {},
    timedOut: () => {},
  })
  // Its timer would keep the test waiting.
  entry.succeed(undefined)
  return entry
}

test('an identifier in use is never given again, and the order is that of sending', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(fc.option(fc.nat()), { maxLength: 200 }), (max, steps) => {
      const sent = new SentPublishes()
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

test('identifiers go from 1 to 65,535 and round again, past those in use, and the order stays that of sending', () => {
  const sent = new SentPublishes()
  const added = (): InFlight => {
    const entry = publish()
    sent.add(entry)
    return entry
  }
  const first = added()
  for (let id = 2; id < 65_535; id += 1) {
    const entry = added()
    expect(entry.id).toBe(id)
    sent.delete(entry)
  }
  const rest = [added(), added(), added()]
  expect([first, ...rest].map(({ id }) => id)).toEqual([1, 65_535, 2, 3])
  expect(sent.list()).toEqual([first, ...rest])
})
