import { expect, test } from 'vitest'
import { Backoff } from '../../../src/mqtt/connection/backoff.ts'

const MINUTE = 60_000

/** Expects delays between half the ceiling and the ceiling, at random. */
function expectDelays(backoff: Backoff, ceiling: number): void {
  const delays = Array.from({ length: 1000 }, () => backoff.delayMs())
  expect(Math.min(...delays)).toBeGreaterThanOrEqual(ceiling / 2)
  expect(Math.max(...delays)).toBeLessThanOrEqual(ceiling)
  // The chance that 1000 random values miss an outer fifth of the range is below 1e-90.
  expect(Math.min(...delays)).toBeLessThan(ceiling * 0.6)
  expect(Math.max(...delays)).toBeGreaterThan(ceiling * 0.9)
}

test('the first attempt is immediate, and each failure doubles the delay up to 1 s, half of it random', () => {
  const backoff = new Backoff(() => 0)
  expect(backoff.delayMs()).toBe(0)
  for (const ceiling of [100, 200, 400, 800, 1000, 1000]) {
    backoff.failed()
    expectDelays(backoff, ceiling)
  }
  backoff.reset()
  expect(backoff.delayMs()).toBe(0)
})

test('only after three minutes it goes up to 10 s', () => {
  let now = 5 * MINUTE
  const backoff = new Backoff(() => now)
  for (let failures = 0; failures < 10; failures += 1) backoff.failed()
  now += 3 * MINUTE - 1
  expectDelays(backoff, 1000)
  now += 1
  expectDelays(backoff, 10_000)
  backoff.reset()
  backoff.failed()
  expectDelays(backoff, 100)
})

test('a broker that refuses is not asked every second', () => {
  const backoff = new Backoff(() => 0)
  for (let failures = 0; failures < 10; failures += 1) backoff.failed(true)
  expectDelays(backoff, 10_000)
})
