import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filtersOverlap } from '../../src/mqtt/topic.ts'

const LEVELS = ['', 'a', 'b', '$x']
const DEPTH = 4

/**
 * Every topic of a few levels over a tiny alphabet; `c` is a level no filter names. The empty topic is none to publish
 * to, but counts: only `/#` and `+` have it and nothing else in common, and calling that an overlap costs nobody a message.
 */
const TOPICS = topicsOf(DEPTH)

function topicsOf(depth: number): string[] {
  const levels = [...LEVELS, 'c']
  const shorter = depth === 1 ? [] : topicsOf(depth - 1)
  const longest = shorter.filter((topic) => topic.split('/').length === depth - 1)
  return depth === 1 ? levels : [...shorter, ...longest.flatMap((topic) => levels.map((level) => `${topic}/${level}`))]
}

/** MQTT 5 section 4.7, one level at a time and with nothing clever. */
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
  test('two filters overlap exactly where some topic matches both', () => {
    fc.assert(
      fc.property(filters, filters, (a, b) => {
        expect(filtersOverlap(a, b)).toBe(TOPICS.some((topic) => matches(a, topic) && matches(b, topic)))
      }),
      { numRuns: 3000 },
    )
  })

  test('neither the order of the two nor a level in common at their front matters', () => {
    fc.assert(
      fc.property(filters, filters, (a, b) => {
        const overlap = filtersOverlap(a, b)
        expect(filtersOverlap(b, a)).toBe(overlap)
        // Behind a level of its own, $ and the wildcards mean nothing special to each other.
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
