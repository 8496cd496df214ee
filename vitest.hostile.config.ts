import { defineConfig } from 'vitest/config'
import { longestFirst } from './test/support/longest-first.ts'

/** The full sizes, and the siblings of the attacks that were found. Brief runs are about two minutes on two cores. */
const long = process.env['CAUSEWAY_TEST_LONG'] === '1'
/** The files that take longest in a brief run. */
const LONGEST = ['answers', 'broker-messages', 'requests', 'sessions', 'publishing', 'streams']
const report = process.env['CAUSEWAY_TEST_REPORT']

// The hostile callers: `npm run test:hostile`, also in `.ci/run`. They are no part of `npm test`, as each takes the whole
// machine.
export default defineConfig({
  test: {
    include: ['test/hostile/**/*.attack.ts'],
    globalSetup: ['test/support/build.ts'],
    ...(!long && { testNamePattern: /^(?!.*sibling)/ }),
    testTimeout: long ? 300_000 : 120_000,
    hookTimeout: 30_000,
    // Whether answers were prompt depends on what else the machine does; see `RETRY` in vitest.config.ts.
    retry: process.env['CI'] === 'true' ? 1 : 0,
    expect: { poll: { timeout: 10_000 } },
    // Attacks of the full size are late because of each other; brief ones mostly wait.
    maxWorkers: long ? 1 : 3,
    fileParallelism: !long,
    sequence: { sequencer: longestFirst(LONGEST.map((name) => `hostile/${name}`)) },
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as ['json', object]])],
  },
})
