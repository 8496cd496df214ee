import { expect, test } from 'vitest'
import { AnswerTime } from '../../../src/mqtt/publish/answer-time.ts'

test('nothing is expected until the broker has answered, nor long after its last answer', () => {
  const time = new AnswerTime(1000)
  expect([time.expectedMs(0), time.waitMs(500, 20, 0)]).toEqual([0, 0])
  time.add(100, 50)
  expect(time.expectedMs(1050)).toBe(300)
  expect(time.expectedMs(1051)).toBe(0)
})

test('steady answers narrow the expectation to what they take, and a slower broker is known within a few', () => {
  const time = new AnswerTime(1000)
  for (let now = 0; now < 40; now += 1) time.add(100, now)
  expect(time.expectedMs(40)).toBe(125)
  for (let now = 40; now < 44; now += 1) time.add(600, now)
  expect(time.expectedMs(44)).toBeGreaterThan(600)
})

test('behind others a publish waits for one mean time for each window of them', () => {
  const time = new AnswerTime(1000)
  for (let now = 0; now < 100; now += 1) time.add(100, now)
  expect(time.waitMs(40, 20, 100)).toBeCloseTo(200, 0)
})
