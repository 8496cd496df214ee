import { expect, test } from 'vitest'
import { Kept, matcher } from '../../src/console/kept.ts'
import { bytesOf, previewOf, shownAs } from '../../src/console/payload.ts'
import { Sample } from '../../src/console/sample.ts'
import { isOpen, TopicTree } from '../../src/console/topic-tree.ts'
import { visible } from '../../src/console/visible.ts'

const entry = (topic: string, payload = '') => ({
  at: new Date(0),
  id: '1',
  message: { topic, payload },
  note: undefined,
})
const topics = (kept: Kept) => kept.all.map(({ message }) => message!.topic)

test('what is kept is bounded in number and in characters, and the newest is always there', () => {
  const kept = new Kept(3, 10_000)
  for (let index = 0; index < 100; index += 1) kept.add(entry(`t/${index}`))
  expect(topics(kept)).toEqual(['t/97', 't/98', 't/99'])
  kept.add(entry('large', 'x'.repeat(9_900)))
  expect(topics(kept)).toEqual(['large'])
  kept.add(entry('too large', 'x'.repeat(99_000)))
  expect([topics(kept), kept.length]).toEqual([['too large'], 1])
})

test('a search looks at topics and payloads, and a branch contains what is below it', () => {
  const kept = new Kept(10, 10_000)
  for (const each of [entry('home'), entry('home/temp', '21'), entry('homes', 'TEMP')]) kept.add(each)
  const found = (search: string, branch?: string) =>
    kept.newest(10, matcher(search, branch)).map(({ message }) => message!.topic)
  expect(found('temp')).toEqual(['home/temp', 'homes'])
  expect(found('', 'home')).toEqual(['home', 'home/temp'])
  expect(kept.newest(1, matcher('', undefined)).map(({ message }) => message!.topic)).toEqual(['homes'])
})

test('a sample is all as long as that can be read, then some of it with the newest one', () => {
  const sample = new Sample(0)
  const numbers = Array.from({ length: 150 }, (_, index) => index)
  expect(sample.choose(numbers, 0)).toEqual(numbers)
  expect(sample.choose(numbers, 0)).toHaveLength(50)
  expect(sample.choose(numbers, 0)).toEqual([])
  const chosen = sample.choose(numbers, 100)
  expect(chosen).toHaveLength(10)
  expect([...new Set(chosen)]).toHaveLength(10)
  expect(chosen.at(-1)).toBe(149)
})

test('the tree is bounded, counts on every level, and has the value of exactly the topic', () => {
  const tree = new TopicTree(4, 0)
  tree.add('a/b', 'one')
  tree.add('a/b/c', 'two')
  tree.add('/x', 'three')
  const rows = tree.visibleRows(10).map(({ path, count, value }) => [path, count, value])
  expect(rows).toEqual([
    ['', 1, undefined],
    ['a', 2, undefined],
    ['a/b', 2, 'one'],
    ['a/b/c', 1, 'two'],
  ])
  expect(tree.unplaced).toBe(1)
  tree.updateRates(2000)
  expect(tree.visibleRows(10).find(({ path }) => path === 'a')!.rate).toBe(1)
})

test('a branch with many children is closed until the user opens it', () => {
  const tree = new TopicTree(1000, 0)
  for (let index = 0; index < 50; index += 1) tree.add(`a/${index}`, '')
  const [branch] = tree.visibleRows(100)
  expect(tree.visibleRows(100)).toHaveLength(1)
  branch!.opened = true
  tree.add('a/one more', '')
  expect(isOpen(branch!)).toBe(true)
  expect(tree.visibleRows(100)).toHaveLength(52)
})

test('payloads are shown as text, as JSON and as bytes', () => {
  const binary = { topic: 'a', payload: Buffer.from([0xff, 0, 0x41]).toString('base64'), encoding: 'base64' as const }
  expect([...bytesOf(binary)]).toEqual([0xff, 0, 0x41])
  expect(previewOf(binary, 100)).toBe('ff 00 41')
  expect(shownAs(binary, 'text')).toBe(`3 bytes\n0000  ff 00 41${' '.repeat(39)}  ..A`)
  expect(shownAs({ topic: 'a', payload: '{"a":[1]}' }, 'json')).toBe('{\n  "a": [\n    1\n  ]\n}')
  expect(shownAs({ topic: 'a', payload: '{' }, 'json')).toBe('This is no JSON:\n{')
  expect(shownAs({ topic: 'a', payload: 'é' }, 'hex')).toMatch(/^2 bytes\n0000 {2}c3 a9 /)
})

test('no character is unseen or changes the order of others', () => {
  expect(visible('a\u0000b\nc\u202ed\u200b', 100)).toBe('a␀b␊c‹U+202E›d‹U+200B›')
  expect(visible('abc', 2)).toBe('ab…')
})
