import { expect, test } from 'vitest'
import { parseAuthorization } from '../../src/auth/credentials.ts'

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

test.each([
  ['Bearer abc', { scheme: 'bearer', token: 'abc' }],
  ['bearer  a-b._~+/=', { scheme: 'bearer', token: 'a-b._~+/=' }],
  [basic('user:pass'), { scheme: 'basic', username: 'user', password: 'pass' }],
  [basic('user:pa:ss'), { scheme: 'basic', username: 'user', password: 'pa:ss' }],
  [basic('jürgen:wörd'), { scheme: 'basic', username: 'jürgen', password: 'wörd' }],
  [basic(':'), { scheme: 'basic', username: '', password: '' }],
])('%s is understood', (field, credentials) => {
  expect(parseAuthorization(field)).toEqual(credentials)
})

test.each([
  '',
  'Bearer',
  'Bearer ',
  'Bearer a b',
  'Bearer "abc"',
  'Digest username="a"',
  'abc',
  basic('no colon'),
  'Basic %',
])('%j is not', (field) => {
  expect(parseAuthorization(field)).toBeUndefined()
})
