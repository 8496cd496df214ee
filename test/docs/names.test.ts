import { expect, test } from 'vitest'
import { ConfigSchema, variableName } from '../../src/config/config.ts'
import { PROBLEM_KINDS } from '../../src/errors.ts'
import { createMetrics } from '../../src/metrics.ts'
import { pages } from '../support/documents.ts'

const documents = pages().filter(({ path }) => path !== 'CHANGELOG.md' && path !== 'docs/brokers.md')

/** What in the pages looks like a name, and is none of these. */
const unknown = (pattern: RegExp, known: ReadonlySet<string>) =>
  documents.flatMap(({ path, text }) =>
    [...text.matchAll(pattern)].filter(([, name]) => !known.has(name!)).map(([, name]) => `${path}: ${name}`),
  )

test('every setting that a page names is one', () => {
  const { properties } = ConfigSchema as unknown as { properties: Record<string, { secret?: boolean }> }
  const settings = new Set(
    Object.entries(properties).flatMap(([key, { secret }]) =>
      secret === true ? [variableName(key), `${variableName(key)}_FILE`] : [variableName(key)],
    ),
  )
  const ofTests = ['CAUSEWAY_PORT', 'CAUSEWAY_BROKERS_CACHE', 'CAUSEWAY_BROKERS_TRACES']
  for (const name of ofTests) settings.add(name)
  expect(unknown(/\b(?<!ST)(CAUSEWAY_(?!TEST_|BENCH_)[A-Z0-9_]+[A-Z0-9])\b/g, settings)).toEqual([])
})

test('every metric that a page names is one', async () => {
  const metrics = (await createMetrics('0').text.getMetricsAsJSON()).flatMap(({ name }) => [
    name,
    `${name}_bucket`,
    `${name}_sum`,
    `${name}_count`,
  ])
  expect(unknown(/`(causeway_[a-z_]+)[`{]/g, new Set(metrics))).toEqual([])
})

test('every problem that a page names beside a status is one with that status', () => {
  const kinds = new Set([...PROBLEM_KINDS.values()].map(({ code, status }) => `${status} \`${code}\``))
  expect(unknown(/\b([45]\d\d `[a-z-]{4,}`)/g, kinds)).toEqual([])
})
