import { defineConfig } from 'vitest/config'
import { longestFirst } from './test/support/longest-first.ts'

/** Waiting for a keep-alive, megabytes through stalled readers, the example consumers, every benchmark once. */
const LONG = 'test/**/*.long.test.ts'
/** Many random operations: a few of them among the brief tests, many among the long ones. */
const STORMS = 'test/**/*.storm.test.ts'

/**
 * The files that take longest. Some of them mostly wait, the others keep the machine busy: they take turns here, so that
 * those that run at the same time are of both kinds.
 */
const LONGEST = [
  'chaos/brief',
  'e2e/replicas',
  'push/standby',
  'e2e/sessions.storm',
  'mqtt/session/session-keepalive',
  'console/page',
  'mqtt/session/session-queue',
  'bench/scenarios',
  'stream/shared/work-queue',
  'e2e/streams.storm',
  'mqtt/connection/hostile-broker',
  'deploy/image',
  'mqtt/markers',
  'examples/consumers',
  'push/killed-bridge',
  'clients/clients',
]

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
          // On two cores: tests also wait, for processes, timers and sockets.
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
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
          // These mostly wait, and for longer.
          maxWorkers: 4,
          sequence: { groupOrder: 1 },
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
    sequence: { sequencer: longestFirst(LONGEST) },
    reporters: ['default', ...(report === undefined ? [] : [['json', { outputFile: report }] as ['json', object]])],
  },
})
