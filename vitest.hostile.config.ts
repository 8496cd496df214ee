import { defineConfig } from 'vitest/config'

// The hostile callers: `npm run test:hostile`. They are no part of `npm test`, as each takes the whole machine.
export default defineConfig({
  test: {
    include: ['test/hostile/**/*.attack.ts'],
    testTimeout: process.env['CAUSEWAY_TEST_LONG'] === '1' ? 300_000 : 75_000,
    hookTimeout: 30_000,
    expect: { poll: { timeout: 10_000 } },
    // One attack at a time: two would be late because of each other.
    fileParallelism: false,
    maxWorkers: 1,
  },
})
