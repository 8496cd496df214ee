import { inject } from 'vitest'

/** A run of random operations, the same again for the same seed as far as timing allows. */
export interface RandomRun {
  seed: number
  operations: number
  /** The environment that repeats it, for the log. */
  replay: string
}

/**
 * How many operations a file does among the brief tests and among the long ones. CAUSEWAY_TEST_OPERATIONS overrides
 * both; CAUSEWAY_TEST_SEED sets the seed, which is random otherwise.
 */
export function randomRun(lengths: { brief: number; long: number }): RandomRun {
  const { CAUSEWAY_TEST_SEED, CAUSEWAY_TEST_OPERATIONS } = process.env
  const seed = Number(CAUSEWAY_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  const operations = Number(CAUSEWAY_TEST_OPERATIONS ?? lengths[inject('length')])
  return { seed, operations, replay: `CAUSEWAY_TEST_SEED=${seed} CAUSEWAY_TEST_OPERATIONS=${operations}` }
}
