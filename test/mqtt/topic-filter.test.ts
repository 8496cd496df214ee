import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filterFault, parseShare, topicFault, type TopicRules } from '../../src/mqtt/topic.ts'
import { TopicTree } from '../../src/mqtt/topic-tree.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'

const open: TopicRules = { levelsMax: 65_535, allowDollar: true }
const part = fc.oneof(
  fc.constantFrom('', '+', '#', '/', '$share', '$', '\u2028', '\n', '\0', 'a'),
  fc.string({ unit: 'binary', maxLength: 3 }),
)
const text = fc
  .tuple(fc.constantFrom('', '$share/g/', '$share/'), fc.array(part, { maxLength: 6 }))
  .map(([share, parts]) => share + parts.join(''))

test('in a valid filter # is the last level, + is a whole one, and no $share is inside another', () => {
  fc.assert(
    fc.property(text, (filter) => {
      fc.pre(filterFault(filter, open) === undefined)
      const plain = parseShare(filter)?.filter ?? filter
      const levels = plain.split('/')
      expect(plain).not.toBe('')
      expect(levels[0]).not.toBe('$share')
      expect(levels.slice(0, -1).filter((level) => level.includes('#'))).toEqual([])
      expect(levels.filter((level) => /[+#]/.test(level) && level.length > 1)).toEqual([])
      expect(filter).toBe(filter.toWellFormed())
    }),
    { numRuns: 2000 },
  )
})

test('a valid topic is a valid filter that matches itself', () => {
  fc.assert(
    fc.property(text, (topic) => {
      fc.pre(topicFault(topic, open) === undefined && !topic.startsWith('$share'))
      expect(filterFault(topic, open)).toBeUndefined()
      const tree = new TopicTree<number>()
      tree.set(topic, 1)
      expect(tree.match(topic)).toEqual([1])
    }),
  )
})

test.each([
  ['#\u2028', '# only'],
  ['a/#\u2029b', '# only'],
  ['#\n', '# only'],
  ['$share/g/#\u2028', '# only'],
  ['$share', '$share'],
  ['$share/g', '$share/GROUP/FILTER'],
  ['$share/g/$share', '$share'],
  ['$share/g/$share/h/a', '$share'],
  ['a'.repeat(65_536), '65535 bytes'],
  ['ä'.repeat(32_768), '65535 bytes'],
  [`$share/g/${'a'.repeat(65_527)}`, '65535 bytes'],
])('%j cannot be subscribed to, although $ is allowed: %s', (filter, fault) => {
  expect(filterFault(filter, open)).toContain(fault)
})

test.each([
  '$shared/a',
  '$SYS/#',
  '$',
  '$share/g/$SYS/#',
  'a/$share/b',
  '\u2028',
  'a'.repeat(65_535),
  'ä'.repeat(32_767),
  `$share/g/${'a'.repeat(65_526)}`,
])('%j can be subscribed to where $ is allowed', (filter) => {
  expect(filterFault(filter, open)).toBeUndefined()
})

test.each<[string, { group: string; filter: string } | undefined]>([
  ['$share/g/a', { group: 'g', filter: 'a' }],
  ['$share/g//', { group: 'g', filter: '/' }],
  ['$share/ä b/+/#', { group: 'ä b', filter: '+/#' }],
  ['$share/g/a\nb', { group: 'g', filter: 'a\nb' }],
  ['$share/g', undefined],
  ['$share/g/', undefined],
  ['$share//a', undefined],
  ['$share/g+/a', undefined],
  ['$share/#/a', undefined],
  ['$shared/g/a', undefined],
  ['a/$share/g/a', undefined],
])('the parts of %j are %j', (filter, parts) => {
  expect(parseShare(filter)).toEqual(parts)
})

test('levels are counted as brokers count them, with those of the group', () => {
  const rules = { levelsMax: 4, allowDollar: false }
  expect(filterFault('a/b/c/d', rules)).toBeUndefined()
  expect(filterFault('a/b/c/d/e', rules)).toContain('4 levels')
  expect(filterFault('$share/g/a/b', rules)).toBeUndefined()
  expect(filterFault('$share/g/a/b/c', rules)).toContain('4 levels')
})

test('a tree gives all its values, however many there are at one level', () => {
  const tree = new TopicTree<number>()
  for (let index = 0; index < 200_000; index += 1) tree.set(`t${index}`, index)
  expect([...tree.values()]).toHaveLength(200_000)
})

describe.runIf(hasMosquitto)('Mosquitto', () => {
  test('keeps its connection with every valid filter', async () => {
    const { url } = await startMosquitto()
    const rules = { levelsMax: 201, allowDollar: true }
    const edge = [
      Array(201).fill('a').join('/'),
      `$share/g/${Array(199).fill('a').join('/')}`,
      'a'.repeat(65_535),
      '$share/g//',
      '$',
      '//',
      '\ufeff',
    ]
    const filters = [...edge, ...fc.sample(text, 2000)].filter((filter) => filterFault(filter, rules) === undefined)
    const client = await mqttClient(url, { protocolVersion: 5 })
    for (const filter of new Set(filters)) {
      const granted = await client.subscribeAsync(filter, { qos: 1 })
      expect(granted, filter).toMatchObject([{ qos: 1 }])
    }
    expect(filters.length).toBeGreaterThan(100)
    expect(client.connected).toBe(true)
  })
})
