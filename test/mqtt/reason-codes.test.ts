import { expect, test } from 'vitest'
import { reasonName, refusal } from '../../src/mqtt/reason-codes.ts'

test.each([
  [0x87, 403, 'not-authorized'],
  [0x90, 400, 'topic-invalid'],
  [0x8f, 400, 'filter-invalid'],
  [0x95, 413, 'payload-too-large'],
  [0x97, 429, 'quota-exceeded'],
  [0x99, 422, 'payload-format-invalid'],
  [0x9a, 422, 'retain-not-supported'],
  [0x9b, 422, 'qos-not-supported'],
  [0x9e, 422, 'shared-subscriptions-not-supported'],
  [0xa2, 422, 'wildcards-not-supported'],
])('a refusal with 0x%s is %s', (code, status, problem) => {
  expect(refusal(code, 'No').kind).toMatchObject({ status, code: problem })
})

test('every other refusal is 502, whether MQTT defines its code or not', () => {
  const own = new Set([0x87, 0x8f, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9e, 0xa2])
  for (let code = 0x80; code <= 0xff; code += 1) {
    if (!own.has(code)) {
      expect(refusal(code, 'No').kind, code.toString(16)).toMatchObject({ status: 502, code: 'broker-refused' })
    }
  }
})

test('a refusal contains the broker’s reason string, or else the name of the code', () => {
  const error = refusal(0x83, 'The broker refused the message for a', 'disk full')
  expect(error.message).toBe('The broker refused the message for a: disk full')
  expect(error.details).toEqual({ mqtt: { reasonCode: 0x83, reason: 'Implementation specific error' } })
  expect(refusal(0xc0, 'No').message).toBe('No: Reason 0xc0')
})

test('only “quota exceeded” has a Retry-After', () => {
  expect(refusal(0x97, 'No').details.retryAfter).toBeGreaterThan(0)
  expect(refusal(0x97, 'No').kind.retryable).toBe(true)
  expect(refusal(0x87, 'No').details).not.toHaveProperty('retryAfter')
})

test.each([
  [0x00, 'Success'],
  [0x10, 'No matching subscribers'],
  [0x80, 'Unspecified error'],
  [0xa2, 'Wildcard subscriptions not supported'],
  [0x05, 'Reason 0x05'],
])('0x%s is called %j', (code, name) => {
  expect(reasonName(code)).toBe(name)
})
