import { expect, test } from 'vitest'
import { type Message, sizeOf } from '../../src/mqtt/message.ts'

const message: Message = { topic: 'a/b', payload: Buffer.alloc(1000), qos: 1, retain: false }

test('the size of a message counts payload, topic and every property', () => {
  const size = sizeOf(message)
  expect(size).toBeGreaterThanOrEqual(1000 + 2 * 3)
  const longTopic = sizeOf({ ...message, topic: 'x'.repeat(10_003) })
  expect(longTopic - size).toBe(20_000)
  const text = 'x'.repeat(5000)
  for (const properties of [
    { contentType: text },
    { responseTopic: text },
    { correlationData: text },
    { userProperties: { [text]: '' } },
    { userProperties: { a: text } },
    { userProperties: { a: [text, ''] } },
  ]) {
    expect(sizeOf({ ...message, properties }) - size).toBeGreaterThanOrEqual(10_000)
    expect(sizeOf({ ...message, ambient: properties }) - size).toBeGreaterThanOrEqual(10_000)
  }
  const many = sizeOf({ ...message, properties: { userProperties: { a: Array.from({ length: 1000 }, () => '') } } })
  expect(many - size).toBeGreaterThanOrEqual(64_000)
})
