import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filtersOverlap } from '../../src/mqtt/topic.ts'

const LEVELS = ['', 'a', 'b', '$x']
const DEPTH = 4

/**
 * Every topic of a few levels over a small alphabet; no filter contains the level `c`. Nobody can publish to the empty
 * topic, but it is included: it is the only one that matches both `/#` and `+`, and calling these overlapping is
 * harmless.
 */
const TOPICS = topicsOf(DEPTH)

function topicsOf(depth: number): string[] {
  const levels = [...LEVELS, 'c']
  const shorter = depth === 1 ? [] : topicsOf(depth - 1)
  const longest = shorter.filter((topic) => topic.split('/').length === depth - 1)
  return depth === 1 ? levels : [...shorter, ...longest.flatMap((topic) => levels.map((level) => `${topic}/${level}`))]
}

/** MQTT 5 section 4.7 in its simplest form, level by level, to compare with. */
function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false
  return levelsMatch(filter.split('/'), topic.split('/'))
}

function levelsMatch([first, ...filters]: string[], topics: string[]): boolean {
  if (first === undefined) return topics.length === 0
  if (first === '#') return true
  return topics.length > 0 && (first === '+' || first === topics[0]) && levelsMatch(filters, topics.slice(1))
}

const filters = fc
  .tuple(fc.array(fc.constantFrom(...LEVELS, '+'), { maxLength: DEPTH - 1 }), fc.constantFrom(...LEVELS, '+', '#'))
  .map(([levels, last]) => [...levels, last].join('/'))
  .filter((filter) => filter !== '')

describe('filtersOverlap', () => {
  test('two filters overlap if and only if some topic matches both', () => {
    fc.assert(
      fc.property(filters, filters, (a, b) => {
        expect(filtersOverlap(a, b)).toBe(TOPICS.some((topic) => matches(a, topic) && matches(b, topic)))
      }),
      { numRuns: 3000 },
    )
  })

  test('neither the order of the two nor a common first level matters', () => {
    fc.assert(
      fc.property(filters, filters, (a, b) => {
        const overlap = filtersOverlap(a, b)
        expect(filtersOverlap(b, a)).toBe(overlap)
        // Only at the first level do wildcards not match $, so filters that begin with $ are left out here.
        const prefixed = filtersOverlap(`z/${a}`, `z/${b}`)
        if (!a.startsWith('$') && !b.startsWith('$')) expect(prefixed).toBe(overlap)
      }),
    )
  })

  test.each([
    ['a/#', 'a', true],
    ['a/+', 'a', false],
    ['a/+', 'a/', true],
    ['+', '/', false],
    ['+/+', '/', true],
    ['#', '$SYS/up', false],
    ['+/up', '$SYS/up', false],
    ['$SYS/#', '$SYS/up', true],
    ['a/+/c', 'a/b/#', true],
    ['a/+/c', 'a/b/d', false],
    ['#', '/', true],
  ])('%s and %s: %s', (a, b, overlap) => {
    expect(filtersOverlap(a, b)).toBe(overlap)
  })
})
