import { defineConfig } from 'vitest/config'

/** The full sizes, and the siblings of the attacks that were found. Brief runs are about two minutes on two cores. */
const long = process.env['CAUSEWAY_TEST_LONG'] === '1'
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
    // Attacks of the full size are late because of each other; brief ones leave room for two.
    maxWorkers: long ? 1 : 2,
    fileParallelism: !long,
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as ['json', object]])],
  },
})
