import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { capabilities } from './checks/all.ts'
import { render } from './document.ts'
import { documentedProblems } from './outcome.ts'
import { readRuns } from './results.ts'

const read = (path: string) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8')
const titles = capabilities.flatMap(({ checks }) => checks.map(({ title }) => title))

test('docs/brokers.md is what the results say', () => {
  expect(read('../../docs/brokers.md')).toBe(render(readRuns(), capabilities))
})

test('each check has a title of its own, and results are of checks there are', () => {
  expect(new Set(titles).size).toBe(titles.length)
  for (const { outcomes } of readRuns()) expect(titles).toEqual(expect.arrayContaining(Object.keys(outcomes)))
})

test('the documented problems are found', () => {
  expect(documentedProblems(read('../../docs/errors.md')).get('broker-unavailable')).toBe(503)
})
