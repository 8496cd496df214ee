import { expect, test } from 'vitest'
import { retryAfterMs, retryDelayMs, verdictOf } from '../../src/push/retry.ts'

test.each([
  [[200, 201, 204, 299], 'delivered'],
  [[undefined, 408, 425, 429, 500, 503, 599], 'retry'],
  [[301, 304, 400, 401, 403, 404, 409, 413, 422], 'rejected'],
  [[410], 'gone'],
])('%j: %s', (statuses, verdict) => {
  for (const status of statuses) expect(verdictOf(status)).toBe(verdict)
})

test.each([
  ['2', 2000],
  [' 0 ', 0],
  ['Thu, 26 Nov 2026 12:00:05 GMT', 5000],
  ['Thu, 26 Nov 2026 11:00:00 GMT', 0],
  ['99999999', 3_600_000],
  ['soon', undefined],
  [undefined, undefined],
])('Retry-After: %j asks to wait %j ms', (value, ms) => {
  expect(retryAfterMs(value, Date.parse('2026-11-26T12:00:00Z'))).toBe(ms)
})

test('waits double up to the longest one, and the upper half is random', () => {
  for (const [failures, maxMs, most] of [
    [1, 60_000, 250],
    [2, 60_000, 500],
    [5, 60_000, 4000],
    [50, 60_000, 60_000],
    [1, 50, 50],
  ] as const) {
    const delays = Array.from({ length: 50 }, () => retryDelayMs(failures, maxMs))
    expect(Math.max(...delays)).toBeLessThanOrEqual(most)
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(most / 2)
    expect(new Set(delays).size).toBeGreaterThan(1)
  }
})
