import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from '../support/documents.ts'

const page = readFileSync(join(ROOT, 'docs/delivery-guarantees.md'), 'utf8')
const named = [...page.matchAll(/\]\(\.\.\/(test\/[^\s)]+)(?: "([^"]*)")?\)/g)].map(([, file, title]) => ({
  file: file!,
  title,
}))

test('each guarantee names a test that is there', () => {
  expect(named.length).toBeGreaterThan(40)
  for (const { file, title } of named) {
    const source = readFileSync(join(ROOT, file), 'utf8')
    expect(source.includes(`'${title}'`), `${file} has no test '${title}'`).toBe(true)
  }
})

/** Cells without a promise: nothing to show. */
const PROMISES_NOTHING = /^(–|may be lost|no answer; it may have arrived)$|\]\(your-broker\.md#/

test('each cell that promises something names a test', () => {
  const rows = page.split('\n').filter((line) => line.startsWith('| ') && !/^\| (---|what happens|\|)/.test(line))
  const cells = rows.flatMap((row) => row.slice(2, -2).split(' | ').slice(1))
  expect(cells.length).toBeGreaterThan(70)
  expect(cells.filter((cell) => !cell.includes('](../test/') && !PROMISES_NOTHING.test(cell))).toEqual([])
})
