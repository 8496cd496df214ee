import { expect, test } from 'vitest'
import { TopicTree } from '../../src/mqtt/topic-tree.ts'
import { FormerFilters, filtersMatching } from '../../src/push/former-filters.ts'

test('the filters for a topic are all that match it, and beyond the limit those with the fewest `+`', () => {
  expect(filtersMatching('a/b', 100).toSorted()).toEqual(
    ['a/b', 'a/b/#', 'a/#', '#', '+/b', '+/b/#', 'a/+', 'a/+/#', '+/#', '+/+', '+/+/#'].toSorted(),
  )
  const tree = new TopicTree<string>()
  const filters = filtersMatching('1/2/3/4/5/6/7/8', 800)
  for (const filter of filters) tree.set(filter, filter)
  expect(tree.match('1/2/3/4/5/6/7/8').length).toBe(filters.length)
  expect(new Set(filters).size).toBe(2 ** 8 + 2 ** 9 - 1)
  expect(filtersMatching('x/'.repeat(40), 50)).toHaveLength(50)
})

test('each topic is tried once, one after the other, with the groups of the target, until the broker fails twice', async () => {
  const asked: (readonly string[])[] = []
  let answer = () => {}
  let isAnswering = true
  const former = new FormerFilters({
    filters: ['b', '$share/group/c'],
    unsubscribe: (filters) => {
      asked.push(filters)
      return new Promise((resolve, reject) => {
        answer = () => (isAnswering ? resolve() : reject(new Error('away')))
      })
    },
  })
  const found = async (topic: string) => {
    const isTried = former.found(topic)
    answer()
    await Promise.resolve().then(() => {})
    return isTried
  }
  expect(former.found('a')).toBe(true)
  expect(former.found('x')).toBe(false)
  expect(asked[0]!.toSorted()).toEqual(
    ['a', 'a/#', '#', '+', '+/#'].flatMap((filter) => [filter, `$share/group/${filter}`]).toSorted(),
  )
  answer()
  await new Promise((resolve) => setImmediate(resolve))
  expect(await found('a')).toBe(false)
  isAnswering = false
  for (const isTried of [true, true, false]) {
    expect(await found('x')).toBe(isTried)
    await new Promise((resolve) => setImmediate(resolve))
  }
})
