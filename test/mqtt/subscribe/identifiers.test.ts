import { expect, test } from 'vitest'
import { Identifiers } from '../../../src/mqtt/subscribe/identifiers.ts'

test('identifiers go on from 1 behind the highest one, and none that is in use is given out again', () => {
  const identifiers = new Identifiers(268_435_453)
  const taken = [identifiers.take(), identifiers.take(), identifiers.take()]
  expect(taken).toEqual([268_435_454, 268_435_455, 1])
  const wrapped = new Identifiers(268_435_454)
  expect([wrapped.take(), wrapped.take(), wrapped.take()]).toEqual([268_435_455, 1, 2])
  const inUse = new Identifiers()
  inUse.take()
  const second = inUse.take()
  inUse.give(second)
  expect(inUse.take()).toBe(3)
})
