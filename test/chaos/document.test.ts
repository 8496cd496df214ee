import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { render } from './document.ts'
import { faults } from './faults.ts'
import { readResults } from './results.ts'

test('docs/chaos.md is what the last results make, and has a row for each fault there is', () => {
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/chaos.md'), 'utf8')
  expect(page).toBe(render(readResults()))
  expect(
    readResults()
      .map(({ fault }) => fault)
      .toSorted(),
  ).toEqual(faults.map(({ name }) => name).toSorted())
})
