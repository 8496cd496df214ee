import { defineConfig } from 'vitest/config'

const report = process.env['CAUSEWAY_TEST_REPORT']

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // How long what is waited for may take on a machine that is busy; nothing is slower for it where it is not.
    expect: { poll: { timeout: 10_000 } },
    // Brokers and streams share two cores in CI; more workers only wait for each other.
    maxWorkers: 2,
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as ['json', object]])],
  },
})
