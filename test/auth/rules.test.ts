import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { allowsPublish, allowsSubscribe } from '../../src/auth/rules.ts'
import { filterContains } from '../../src/mqtt/topic.ts'

const rules = (...filters: string[]) => ({ publish: filters, subscribe: filters })

describe('publishing', () => {
  test.each([
    ['a/b', 'a/b'],
    ['a/+', 'a/b'],
    ['a/+', 'a/'],
    ['a/#', 'a'],
    ['a/#', 'a/b/c'],
    ['#', 'a/b'],
    ['+/#', 'a'],
    ['$SYS/#', '$SYS/broker'],
  ])('%s allows %s', (rule, topic) => {
    expect(allowsPublish(rules(rule), topic)).toBe(true)
  })

  test.each([
    ['a/b', 'a/c'],
    ['a/b', 'a'],
    ['a/b', 'a/b/c'],
    ['a/b', 'A/b'],
    ['a/+', 'a'],
    ['a/+', 'a/b/c'],
    ['a/+/c', 'a/b/d'],
    ['#', '$SYS/broker'],
    ['+/broker', '$SYS/broker'],
    ['+/#', '$SYS/broker'],
  ])('%s does not allow %s', (rule, topic) => {
    expect(allowsPublish(rules(rule), topic)).toBe(false)
  })

  test('nothing is allowed without a rule', () => {
    expect(allowsPublish(rules(), 'a')).toBe(false)
    expect(allowsPublish({ publish: [], subscribe: ['a'] }, 'a')).toBe(false)
  })
})

describe('subscribing', () => {
  test.each([
    ['a/#', 'a/+'],
    ['a/#', 'a/#'],
    ['a/#', 'a'],
    ['a/+/c', 'a/b/c'],
    ['+/#', '#'],
    ['#', '+/#'],
    ['a/+', '$share/g/a/b'],
    ['a/#', '$share/g/a/#'],
    ['$SYS/#', '$SYS/+'],
  ])('%s allows %s', (rule, filter) => {
    expect(allowsSubscribe(rules(rule), filter)).toBe(true)
  })

  test.each([
    ['a/+', 'a/#'],
    ['a/+/#', 'a/#'],
    ['a/b', 'a/+'],
    ['a/+', '+/a'],
    ['a/b/#', 'a/#'],
    ['+', '#'],
    ['#', '$SYS/#'],
    ['+/broker', '$SYS/broker'],
    ['a/+', '$share/g/a/#'],
    ['$share/#', '$share/g/a'],
    ['#', '$share/g/$SYS/#'],
  ])('%s does not allow %s', (rule, filter) => {
    expect(allowsSubscribe(rules(rule), filter)).toBe(false)
  })

  test('two rules that contain the filter only together do not allow it', () => {
    expect(allowsSubscribe(rules('a', 'a/+/#'), 'a/#')).toBe(false)
  })

  test('a rule to publish is none to subscribe', () => {
    expect(allowsSubscribe({ publish: ['#'], subscribe: [] }, 'a')).toBe(false)
  })
})

/**
 * Matches a topic against a filter as section 4.7 of MQTT 5 says, level by level. Independent of the code under test.
 */
function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false
  const pattern = filter
    .split('/')
    .map((level) => (level === '#' ? '(?:.*)' : level === '+' ? '[^/]*' : level.replaceAll('$', '\\$')))
    .join('/')
    .replace('/(?:.*)', '(?:/.*)?')
  return new RegExp(`^${pattern}$`, 's').test(topic)
}

const NAMES = ['', 'a', 'b', '$x']
/** Topics with one more name and one more level than any filter, so that some match by a wildcard only. */
const TOPICS = topicsOf(4, [...NAMES, 'other']).filter((topic) => topic !== '')

function topicsOf(depth: number, names: string[]): string[] {
  if (depth === 1) return names
  const shorter = topicsOf(depth - 1, names)
  return [...new Set([...shorter, ...shorter.flatMap((topic) => names.map((name) => `${topic}/${name}`))])]
}

const filters = fc
  .tuple(fc.array(fc.constantFrom(...NAMES, '+', '+'), { minLength: 0, maxLength: 3 }), fc.boolean())
  .map(([levels, open]) => (open ? [...levels.slice(0, 2), '#'] : levels).join('/'))
  .filter((filter) => filter !== '')

test('a rule contains a filter exactly where every topic that matches the filter matches the rule', () => {
  let contained = 0
  fc.assert(
    fc.property(filters, filters, (rule, filter) => {
      const expected = TOPICS.every((topic) => !matches(filter, topic) || matches(rule, topic))
      if (expected) contained += 1
      expect(filterContains(rule, filter)).toBe(expected)
    }),
    { numRuns: 5000 },
  )
  expect(contained).toBeGreaterThan(100)
})
