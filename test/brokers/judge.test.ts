import { expect, test } from 'vitest'
import { judge } from './judge.ts'
import { documentedProblems, Limit, outcomeOf, Refused, Wrong } from './outcome.ts'

const message = (payload: string, redelivered?: boolean) => ({
  event: 'message',
  id: payload,
  data: { payload, ...(redelivered && { redelivered }) },
})
const gap = { event: 'gap', id: 'g', data: { reason: 'overrun' } }
const expected = ['1', '2', '3']

test('what came once and in order is held', () => {
  expect(() =>
    judge(
      expected.map((payload) => message(payload)),
      { expected },
    ),
  ).not.toThrow()
})

test('what is missing is wrong, and a limit where a gap said so', () => {
  expect(() => judge([message('1'), message('3')], { expected })).toThrow(Wrong)
  expect(() => judge([message('1'), gap, message('3')], { expected })).toThrow(Limit)
})

test('what comes twice has to be marked', () => {
  const all = expected.map((payload) => message(payload))
  expect(() => judge([...all, message('2')], { expected })).toThrow(Wrong)
  expect(() => judge([...all, message('2', true)], { expected })).not.toThrow()
  expect(() => judge(all, { expected, seen: ['1'] })).toThrow(Wrong)
})

test('what is out of order has to be marked', () => {
  expect(() => judge([message('2'), message('1'), message('3')], { expected })).toThrow(Wrong)
  expect(() => judge([message('2'), message('1', true), message('3')], { expected })).not.toThrow()
  expect(() => judge([message('2'), message('1'), message('3')], { expected, ordered: false })).not.toThrow()
})

test('what nobody published is wrong', () => {
  expect(() => judge([message('4')], { expected: [] })).toThrow(Wrong)
})

test('a problem is honest where the documents have its code with its status', () => {
  const documented = documentedProblems('| `not-found` | 404 | no | Nothing |\n| `internal` | 500 | yes | Failed |\n')
  const outcome = (status: number, code: string, dishonest: string[] = []) =>
    outcomeOf(new Refused(status, code, 'why'), documented, dishonest).outcome
  expect(outcome(404, 'not-found')).toBe('refused')
  expect(outcome(404, 'not-found', ['not-found'])).toBe('wrong')
  expect(outcome(400, 'not-found')).toBe('wrong')
  expect(outcome(404, 'unheard-of')).toBe('wrong')
  expect(outcome(500, 'internal')).toBe('wrong')
  expect(outcomeOf(new TypeError('surprise'), documented).outcome).toBe('wrong')
})
