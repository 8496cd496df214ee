import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Waiting for a keep-alive, megabytes through stalled readers, the example consumers, every benchmark once. */
const LONG = 'test/**/*.long.test.ts'
/** Many random operations: a few of them among the brief tests, many among the long ones. */
const STORMS = 'test/**/*.storm.test.ts'

/** The files that take longest. Begun last, one of them would keep a single worker busy for more than a minute. */
const LONGEST = ['chaos/brief', 'e2e/replicas', 'e2e/sessions.storm', 'e2e/streams.storm', 'console/page']

/** Without its cache Vitest begins with the largest files, which says little of how long they take. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLongest = ({ moduleId }: TestSpecification) => LONGEST.some((name) => moduleId.includes(`/test/${name}.`))
    const sorted = await super.sort(files)
    return [...sorted.filter(isLongest), ...sorted.filter((file) => !isLongest(file))]
  }
}

/** The clients of `test/clients` have packages of their own, with tests in them. */
const INSTALLED = '**/node_modules/**'

/**
 * Browsers, proxies and brokers of others, several at once on two cores, are late now and then. In CI such a test has a
 * second try; both are in its output, with the seed of a storm.
 */
const RETRY = process.env['CI'] === 'true' ? 1 : 0

declare module 'vitest' {
  interface ProvidedContext {
    length: 'brief' | 'long'
  }
}

const report = process.env['CAUSEWAY_TEST_REPORT']

export default defineConfig({
  test: {
    // `npm test` runs the brief tests, `npm run test:long` the long ones, `npx vitest run FILE` whatever is in FILE.
    projects: [
      {
        extends: true,
        test: {
          name: 'brief',
          include: ['test/**/*.test.ts'],
          exclude: [LONG, INSTALLED],
          provide: { length: 'brief' },
        },
      },
      {
        extends: true,
        test: {
          name: 'long',
          include: [LONG, STORMS],
          exclude: [INSTALLED],
          retry: RETRY,
          provide: { length: 'long' },
        },
      },
    ],
    globalSetup: ['test/support/build.ts'],
    setupFiles: ['test/support/setup.ts'],
    // A failure, not a pace: with a load of 25 on two cores a test of 2 s takes 35 s.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // How long `expect.poll` waits on a busy machine. A test that passes never waits for it.
    expect: { poll: { timeout: 10_000 } },
    // A worker keeps the modules of one file for the next: loading Fastify and MQTT.js anew took 1 s for each file.
    // Modules have no state of their own (see CONTRIBUTING.md), so one file cannot disturb the next.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    // On two cores: tests also wait, for processes, timers and sockets.
    maxWorkers: 3,
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as ['json', object]])],
  },
})
