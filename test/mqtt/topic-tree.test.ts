import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { TopicTree } from '../../src/mqtt/topic-tree.ts'
import { filtersOverlap } from '../../src/mqtt/topic.ts'

/** MQTT 5 section 4.7 in its simplest form, to compare with. */
function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') !== filter.startsWith('$')) return false
  const levels = topic.split('/')
  const parts = filter.split('/')
  for (const [index, part] of parts.entries()) {
    if (part === '#') return true
    if (index >= levels.length) return false
    if (part !== '+' && part !== levels[index]) return false
  }
  return parts.length === levels.length
}

const level = fc.constantFrom('', 'a', 'b', '$x')
const topics = fc
  .array(level, { minLength: 1, maxLength: 4 })
  .map((levels) => levels.join('/'))
  .filter((topic) => topic !== '')
const filters = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, rest]) => [...levels, ...(rest ? ['#'] : [])].join('/'))
  .filter((filter) => filter !== '')

test('finds the filters that match by the specification, while filters are added and removed', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), filters), { maxLength: 40 }), topics, (changes, topic) => {
      const tree = new TopicTree<string>()
      const held = new Set<string>()
      for (const [add, filter] of changes) {
        if (add) tree.set(filter, filter)
        else tree.delete(filter)
        if (add) held.add(filter)
        else held.delete(filter)
        expect(tree.size).toBe(held.size)
      }
      expect(tree.match(topic).sort()).toEqual([...held].filter((filter) => matches(filter, topic)).sort())
      expect([...tree.values()].sort()).toEqual([...held].sort())
      for (const filter of held) expect(tree.get(filter)).toBe(filter)
    }),
  )
})

test('a tree that was emptied holds no nodes', () => {
  const tree = new TopicTree<number>()
  for (const filter of ['a/b/c', 'a/b', 'a/#', '+']) tree.set(filter, 1)
  for (const filter of ['a/b', 'a/b/c', '+', 'a/#']) tree.delete(filter)
  expect([tree.size, [...tree.values()], tree.match('a/b/c')]).toEqual([0, [], []])
})

test('# matches its parent level, and no $ topic', () => {
  const tree = new TopicTree<string>()
  for (const filter of ['a/#', '#', '+/x', '$SYS/#']) tree.set(filter, filter)
  expect(tree.match('a').sort()).toEqual(['#', 'a/#'])
  expect(tree.match('$SYS/x')).toEqual(['$SYS/#'])
})

test('matching among 10,000 filters looks at no more than among 10', () => {
  const lookups = (count: number) => {
    const tree = new TopicTree<number>()
    for (let index = 0; index < count; index += 1) tree.set(`site/${index}/+/temp`, index)
    const get = vi.spyOn(Map.prototype, 'get')
    expect(tree.match('site/7/room/temp')).toEqual([7])
    const { length } = get.mock.calls
    get.mockRestore()
    return length
  }
  expect(lookups(10_000)).toBe(lookups(10))
})

test('someOverlapping finds exactly the filters that overlap', () => {
  const level = fc.constantFrom('', 'a', 'b', '$x', '+')
  const filter = fc
    .tuple(fc.array(level, { maxLength: 3 }), fc.oneof(level, fc.constant('#')))
    .map(([levels, last]) => [...levels, last].join('/'))
  fc.assert(
    fc.property(fc.uniqueArray(filter, { maxLength: 12 }), filter, (filters, searched) => {
      const tree = new TopicTree<string>()
      for (const one of filters) tree.set(one, one)
      const found: string[] = []
      tree.someOverlapping(searched, (one) => found.push(one) < 0)
      expect(found.sort()).toEqual(filters.filter((one) => filtersOverlap(one, searched)).sort())
      expect(tree.someOverlapping(searched, () => true)).toBe(found.length > 0)
    }),
    { numRuns: 2000 },
  )
})
