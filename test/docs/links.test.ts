import { existsSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect, test } from 'vitest'
import { fencesOf, pages, ROOT } from '../support/documents.ts'

const documents = pages()
/** A page's text without its blocks of code, which may have what looks like a link or a heading. */
const prose = (text: string) => text.replaceAll(/^( *)```[^]*?^\1```$/gm, '')

/** The fragments of a page's headings, as GitHub makes them. */
function anchors(text: string): Set<string> {
  const seen = new Map<string, number>()
  return new Set(
    [...prose(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => {
      const plain = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
      const slug = plain.replaceAll(/[^\p{L}\p{N}\p{M}\- _]/gu, '').replaceAll(' ', '-')
      const count = seen.get(slug) ?? 0
      seen.set(slug, count + 1)
      return count === 0 ? slug : `${slug}-${count}`
    }),
  )
}

test.each(documents)('the links of $path lead somewhere', ({ path, text }) => {
  const broken = [
    ...prose(text)
      .replaceAll(/`[^`\n]+`/g, '')
      .matchAll(/\]\(([^)\s]+)(?: "[^"]*")?\)/g),
  ]
    .map((match) => match[1]!)
    .filter((link) => !/^(https?|mailto):/.test(link))
    .filter((link) => {
      const [file, fragment] = link.split('#')
      const target = file === '' ? path : normalize(join(dirname(path), file!))
      if (!existsSync(ROOT + target)) return true
      if (fragment === undefined) return false
      const page = documents.find((one) => one.path === target)
      return page === undefined || !anchors(page.text).has(fragment)
    })
  expect(broken).toEqual([])
})

test('the index has every page', () => {
  const index = documents.find(({ path }) => path === 'docs/README.md')!
  const missing = documents.filter(
    ({ path }) => path.startsWith('docs/') && path !== index.path && !index.text.includes(`](${path.slice(5)})`),
  )
  expect(missing.map(({ path }) => path)).toEqual([])
})

test('the README is short, and every page has one title', () => {
  expect(documents[0]!.text.split('\n').length).toBeLessThanOrEqual(200)
  for (const { path, text } of documents) expect(text.match(/^# .+$/gm)?.length ?? 0, path).toBeGreaterThan(0)
})

test('commands are in blocks that the tests find', () => {
  const hidden = documents
    .flatMap(fencesOf)
    .filter(({ language, text }) => !['sh', 'js', 'json'].includes(language) && /^(curl|npm|npx|docker) /m.test(text))
  expect(hidden.map(({ place }) => place)).toEqual([])
})
