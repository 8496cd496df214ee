import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { newToken } from '../../../src/auth/token/new-token.ts'
import { parseTokenFile } from '../../../src/auth/token/token-file.ts'

const HASH = 'a'.repeat(64)
const entry = (members: object) => JSON.stringify([{ name: 'one', sha256: HASH, ...members }])

test('a token has a name, a hash, and rules that may be left out', () => {
  expect(parseTokenFile(entry({ publish: ['a/+'] }))).toEqual([
    { name: 'one', sha256: HASH, publish: ['a/+'], subscribe: [] },
  ])
  expect(parseTokenFile('[]')).toEqual([])
})

test('a token may have limits of its own', () => {
  expect(parseTokenFile(entry({ rate: 5, streams: 0 }))).toMatchObject([{ rate: 5, streams: 0 }])
})

test('a hash may be in capitals', () => {
  expect(parseTokenFile(entry({ sha256: 'AB'.repeat(32) }))).toMatchObject([{ sha256: 'ab'.repeat(32) }])
})

test.each([
  ['', 'expected JSON'],
  ['{}', 'expected an array of tokens'],
  ['[null]', 'token 0: expected an object'],
  [entry({ name: '' }), 'token 0: expected a name'],
  [entry({ sha256: 'secret' }), 'token 0: expected the sha256 of the token, in hex'],
  [entry({ publish: 'a' }), 'token 0: publish must be an array of filters'],
  [entry({ publish: [1] }), 'token 0: publish must be an array of filters'],
  [
    entry({ subscribe: ['a', 'a#'] }),
    'token 0: subscribe "a#" must have # only as its last level (in a URL, # has to be sent as %23)',
  ],
  [entry({ subscribe: ['$share/g/a'] }), 'token 0: subscribe "$share/g/a" must be a filter without $share/GROUP/'],
  [entry({ rate: '5' }), 'token 0: expected rate to be an integer of 0 or more'],
  [entry({ streams: -1 }), 'token 0: expected streams to be an integer of 0 or more'],
  [entry({ pubilsh: ['a'] }), 'token 0: expected only name, sha256, publish, subscribe, rate, streams, got "pubilsh"'],
  [
    JSON.stringify([
      { name: 'one', sha256: HASH },
      { name: 'one', sha256: 'b'.repeat(64) },
    ]),
    'token 1: expected a name of its own, got that of an earlier token',
  ],
  [
    JSON.stringify([
      { name: 'one', sha256: HASH },
      { name: 'two', sha256: HASH.toUpperCase() },
    ]),
    'token 1: expected a sha256 of its own, got that of an earlier token',
  ],
])('%s is refused', (text, fault) => {
  expect(() => parseTokenFile(text)).toThrow(expect.objectContaining({ message: fault }))
})

test('every fault is told at once, and no hash', () => {
  const fault = (() => {
    try {
      return parseTokenFile(
        JSON.stringify([
          { name: '', sha256: HASH },
          { name: 'two', sha256: `${HASH}0`, publish: ['#/a'] },
        ]),
      )
    } catch (error) {
      return (error as Error).message
    }
  })()
  expect(fault).toMatch(/^token 0: .*; token 1: .*; token 1: publish/)
  expect(fault).not.toContain(HASH)
})

test('a new token is long, its own, and known by its hash', () => {
  const [one, two] = [newToken('one'), newToken('two')]
  expect(one.token).toMatch(/^cw_[\w-]{43}$/)
  expect(two.token).not.toBe(one.token)
  expect(one.entry).toEqual({
    name: 'one',
    sha256: createHash('sha256').update(one.token).digest('hex'),
    publish: [],
    subscribe: [],
  })
  expect(parseTokenFile(JSON.stringify([one.entry, two.entry]))).toHaveLength(2)
})
