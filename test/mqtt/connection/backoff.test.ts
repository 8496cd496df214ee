import { expect, test } from 'vitest'
import { Backoff } from '../../../src/mqtt/connection/backoff.ts'

test('the first attempt is immediate, and each failure doubles the delay up to 10 s, half of it random', () => {
  const backoff = new Backoff()
  expect(backoff.delayMs()).toBe(0)
  for (const ceiling of [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]) {
    backoff.failed()
    const delays = Array.from({ length: 1000 }, () => backoff.delayMs())
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(ceiling / 2)
    expect(Math.max(...delays)).toBeLessThanOrEqual(ceiling)
    // The chance that 1000 random values miss an outer fifth of the range is below 1e-90.
    expect(Math.min(...delays)).toBeLessThan(ceiling * 0.6)
    expect(Math.max(...delays)).toBeGreaterThan(ceiling * 0.9)
  }
  backoff.reset()
  expect(backoff.delayMs()).toBe(0)
})
