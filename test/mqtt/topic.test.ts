import { describe, expect, test } from 'vitest'
import { filterFault, stringFault, topicFault } from '../../src/mqtt/topic.ts'

const rules = { levelsMax: 5, allowDollar: false }

describe('topics', () => {
  test.each([
    'a',
    'a/b/c',
    '/',
    '/a',
    'a/',
    '//',
    'a b',
    'ä/☃',
    '💡',
    '.',
    'a/b/c/d/e',
    'x$',
    'a/$SYS',
    'a'.repeat(65_535),
  ])('%j can be published to', (topic) => {
    expect(topicFault(topic, rules)).toBeUndefined()
  })

  test.each([
    ['', 'empty'],
    ['a/+', 'wildcards'],
    ['#', 'wildcards'],
    ['a\0b', 'control'],
    ['a\nb', 'control'],
    ['a\x7f', 'control'],
    ['a\x85', 'control'],
    ['\ufdd0', 'non-characters'],
    ['a\ufffe', 'non-characters'],
    ['\u{1ffff}', 'non-characters'],
    ['\ud800', 'surrogates'],
    ['$SYS/x', '$'],
    ['a/b/c/d/e/f', '5 levels'],
    ['a'.repeat(65_536), '65535 bytes'],
    ['ä'.repeat(32_768), '65535 bytes'],
  ])('%j cannot: %s', (topic, fault) => {
    expect(topicFault(topic, rules)).toContain(fault)
  })

  test('that begin with $ can where they are allowed', () => {
    expect(topicFault('$x/y', { ...rules, allowDollar: true })).toBeUndefined()
  })
})

describe('filters', () => {
  test.each([
    'a',
    '#',
    '+',
    '/',
    '+/+',
    '+/#',
    'a/+/c',
    'a/#',
    '/#',
    '//+',
    '$share/g/a',
    '$share/g/#',
    '$share/g//',
    'a/b/c/d/#',
  ])('%j can be subscribed to', (filter) => {
    expect(filterFault(filter, rules)).toBeUndefined()
  })

  test.each([
    ['', 'empty'],
    ['a#', '# only'],
    ['#/a', '# only'],
    ['a/#/b', '# only'],
    ['##', '# only'],
    ['a+', '+ only'],
    ['+a/b', '+ only'],
    ['a/++', '+ only'],
    ['a\0', 'control'],
    ['$SYS/#', '$'],
    ['$share/g', '$share/GROUP/FILTER'],
    ['$share//a', '$share/GROUP/FILTER'],
    ['$share/g/', '$share/GROUP/FILTER'],
    ['$share/+/a', '$share/GROUP/FILTER'],
    ['$share/g/$SYS/x', '$'],
    ['$share/g/a#', '# only'],
    ['a/b/c/d/e/#', '5 levels'],
  ])('%j cannot: %s', (filter, fault) => {
    expect(filterFault(filter, rules)).toContain(fault)
  })
})

test('strings have at most 65,535 bytes, not characters', () => {
  expect(stringFault('€'.repeat(21_845))).toBeUndefined()
  expect(stringFault('€'.repeat(21_846))).toContain('65535 bytes')
})
