import { expect, test } from 'vitest'
import { Refusals } from '../../../src/auth/broker/refusals.ts'
import { CausewayError } from '../../../src/errors.ts'

const refused = new CausewayError('unauthorized', 'no')
const codeOf = (refusals: Refusals, key: string, address: string) => {
  try {
    refusals.check(key, address)
  } catch (error) {
    return (error as CausewayError).kind.code
  }
}

test('credentials that were refused are so again, wherever they come from', () => {
  const refusals = new Refusals({ windowMs: 60_000, perAddress: 5 })
  refusals.remember('key', '192.0.2.1', refused)
  expect([
    codeOf(refusals, 'key', '192.0.2.1'),
    codeOf(refusals, 'key', '192.0.2.2'),
    codeOf(refusals, 'other', '192.0.2.1'),
  ]).toEqual(['unauthorized', 'unauthorized', undefined])
})

test('a network has so many refusals and no more, however many addresses it has', () => {
  const refusals = new Refusals({ windowMs: 60_000, perAddress: 3 })
  for (const [key, address] of [
    ['1', '2001:db8::1'],
    ['2', '2001:db8::2'],
    ['3', '2001:db8::3:1'],
  ] as const) {
    expect(codeOf(refusals, key, address)).toBeUndefined()
    refusals.remember(key, address, refused)
  }
  expect([
    codeOf(refusals, '4', '2001:db8::4'),
    codeOf(refusals, '4', '2001:db8:0:1::4'),
    codeOf(refusals, '1', '2001:db8::4'),
  ]).toEqual(['too-many-attempts', undefined, 'unauthorized'])
})

test('refusals are forgotten after their time', async () => {
  const refusals = new Refusals({ windowMs: 1, perAddress: 1 })
  refusals.remember('key', '192.0.2.1', refused)
  await expect
    .poll(() => [codeOf(refusals, 'key', '192.0.2.1'), codeOf(refusals, 'other', '192.0.2.1')])
    .toEqual([undefined, undefined])
})

test('no flood makes it remember without end', () => {
  const refusals = new Refusals({ windowMs: 60_000, perAddress: 1 })
  for (let index = 0; index <= 10_000; index += 1) {
    // Sending old credentials again must not keep them remembered longer than others.
    codeOf(refusals, 'key 0', '192.0.2.9')
    refusals.remember(`key ${index}`, `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, refused)
  }
  expect([codeOf(refusals, 'key 0', '10.0.0.0'), codeOf(refusals, 'key 10000', '192.0.2.1')]).toEqual([
    undefined,
    'unauthorized',
  ])
})
