import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ConfigSchema, variableName } from '../../src/config/config.ts'
import { PROBLEM_KINDS } from '../../src/errors.ts'
import { createMetrics } from '../../src/metrics.ts'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')

/** The rows of the first table below a heading, as cells without backticks. */
function tableBelow(heading: string): string[][] {
  const section = readme.split(`\n## ${heading}\n`)[1]!.split('\n## ')[0]!
  const table = section.split('\n').filter((line) => line.startsWith('|'))
  return table.slice(2).map((line) =>
    line
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1')),
  )
}

test('the configuration table and the schema are the same', () => {
  const properties = ConfigSchema.properties as Record<string, { default?: unknown; description?: string }>
  const settings = Object.entries(properties).map(([key, { default: fallback, description }]) => [
    variableName(key),
    fallback === undefined ? '–' : String(fallback),
    description,
  ])
  expect(tableBelow('Configuration')).toEqual(settings)
})

test('the error table and the problems are the same', () => {
  const kinds = [...PROBLEM_KINDS.values()].map(({ code, status, title, retryable }) => [
    code,
    String(status),
    retryable ? 'yes' : 'no',
    title,
  ])
  expect(tableBelow('Errors')).toEqual(kinds)
})

test('the metrics table and the registry are the same', async () => {
  const { text } = createMetrics('0')
  const metrics = (await text.getMetricsAsJSON())
    .filter(({ name }) => name.startsWith('causeway_'))
    .map(({ name, help }) => {
      const { labelNames } = text.getSingleMetric(name) as unknown as { labelNames: string[] }
      return [
        name,
        labelNames.length === 0
          ? '–'
          : labelNames
              .map((label) => `\`${label}\``)
              .join(', ')
              .replace(/^`([^`]*)`$/, '$1'),
        help,
      ]
    })
  expect(tableBelow('Metrics').map((row) => [...row])).toEqual(
    metrics.map(([name, labels, help]) => [name, labels!.replace(/^`(.*)`$/, '$1'), help]),
  )
})
