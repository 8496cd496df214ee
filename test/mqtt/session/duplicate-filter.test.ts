import { expect, test } from 'vitest'
import { DuplicateFilter } from '../../../src/mqtt/session/duplicate-filter.ts'

const message = (payload: string, extra = {}) => ({
  topic: 'a',
  payload: Buffer.from(payload),
  qos: 1 as const,
  retain: false,
  ...extra,
})

test.each<[string, [payload: string, identifiers: number[], extra?: object][], string]>([
  [
    'one copy for each of two filters',
    [
      ['x', [1]],
      ['x', [2]],
    ],
    'new copy',
  ],
  [
    'the same message twice, two copies each',
    [
      ['x', [1]],
      ['x', [2]],
      ['x', [1]],
      ['x', [2]],
    ],
    'new copy new copy',
  ],
  [
    'the same message twice, of a broker that keeps one copy',
    [
      ['x', [2]],
      ['x', [2]],
    ],
    'new new',
  ],
  [
    'one copy, then both of the same message again',
    [
      ['x', [2]],
      ['x', [1]],
      ['x', [2]],
    ],
    'new copy new',
  ],
  [
    'another message between the copies',
    [
      ['x', [1]],
      ['y', [1]],
      ['x', [2]],
    ],
    'new new new',
  ],
  [
    'another topic',
    [
      ['x', [1]],
      ['x', [2], { topic: 'b' }],
    ],
    'new new',
  ],
  [
    'a retained one and a live one',
    [
      ['x', [1], { retain: true }],
      ['x', [2]],
    ],
    'new new',
  ],
  [
    'other properties',
    [
      ['x', [1], { properties: { contentType: 'a' } }],
      ['x', [2], { properties: { contentType: 'b' } }],
    ],
    'new new',
  ],
  [
    'the same properties',
    [
      ['x', [1], { properties: { contentType: 'a' } }],
      ['x', [2], { properties: { contentType: 'a' } }],
    ],
    'new copy',
  ],
  [
    'one copy that names all its filters',
    [
      ['x', [1, 2]],
      ['x', [1, 2]],
    ],
    'new new',
  ],
  [
    'no identifiers',
    [
      ['x', []],
      ['x', []],
    ],
    'new new',
  ],
])('%s', (_what, copies, expected) => {
  const filter = new DuplicateFilter()
  expect(
    copies
      .map(([payload, identifiers, extra]) =>
        filter.isDuplicate(message(payload, extra), identifiers) ? 'copy' : 'new',
      )
      .join(' '),
  ).toBe(expected)
})

test('the same message on another connection is no duplicate: the first may not have been acknowledged', () => {
  const filter = new DuplicateFilter()
  filter.isDuplicate(message('x'), [1])
  filter.reset()
  expect(filter.isDuplicate(message('x'), [2])).toBe(false)
})
