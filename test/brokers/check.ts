import type { Ground } from './ground.ts'

export interface Check {
  /** Words of the documents, such as stand in a table's first column. */
  title: string
  /** Among those that run with `--brief`, in CI: a few seconds each. */
  isBrief?: boolean
  /** Longest time until it ends by itself; 45 s unless set. */
  limitMs?: number
  /** Problem codes that are documented and all the same no honest answer here. */
  dishonest?: string[]
  /** Returns where the promise was held; throws what `outcome.ts` knows otherwise. */
  run(ground: Ground): Promise<void>
}

/** A capability: checks that belong together. */
export interface Capability {
  title: string
  checks: Check[]
}
