import { expect } from 'vitest'

/**
 * Makes `toEqual` and `toMatchObject` compare buffers as bytes. Vitest compares them element by element, which takes
 * more than 2 s of processor time for 1 MB. Vitest runs `setup.ts` before each file; this module is loaded once in a
 * worker, so there is only one tester.
 */
expect.addEqualityTesters([
  (one, other) => (Buffer.isBuffer(one) && Buffer.isBuffer(other) ? one.equals(other) : undefined),
])
