import { expect, test } from 'vitest'
import type { Encoder, StreamMessage } from '../../../src/stream/events.ts'
import { ndjson } from '../../../src/stream/formats/ndjson.ts'
import { RetainedPieces } from '../../../src/stream/shared/retained-pieces.ts'

const message = (payload: string): StreamMessage => ({ topic: 'a', payload: Buffer.from(payload), qos: 1 })

/** Pieces, and how many messages were encoded for them. */
function createPieces() {
  const encoded = { count: 0 }
  const encoder = (name: string): Encoder<StreamMessage> => ({
    name,
    format: ndjson,
    messageData({ payload }) {
      encoded.count += 1
      if (payload.includes('unencodable')) throw new RangeError('Invalid string length')
      return JSON.stringify(payload.toString())
    },
    withExpiry: (event) => event,
  })
  const pieces = new RetainedPieces<StreamMessage>()
  const all = (messages: readonly StreamMessage[], name = 'test'): (string | undefined)[] => {
    const events: (string | undefined)[] = []
    while (events.length < messages.length) {
      const chunk = pieces.at(encoder(name), messages, events.length, messages.length)
      if (chunk === undefined) events.push(undefined)
      else events.push(...chunk.bytes.toString().trimEnd().split('\n').slice(0, chunk.events))
    }
    return events.map((event) => event && JSON.parse(event).data)
  }
  return { all, encoded }
}

test('readers of the same messages get the same pieces, and each message is encoded once', () => {
  const { all, encoded } = createPieces()
  const messages = Array.from({ length: 1000 }, (_, index) => message(`${index}`.padEnd(100, 'x')))
  const payloads = messages.map(({ payload }) => `${payload}`)
  for (let reader = 0; reader < 10; reader += 1) expect(all(messages)).toEqual(payloads)
  expect(encoded.count).toBe(1000)
  // One who lacks some of them gets exactly the others.
  expect(all(messages.slice(500, 700))).toEqual(payloads.slice(500, 700))
  expect(all([...messages.slice(0, 10), ...messages.slice(20)])).toEqual([
    ...payloads.slice(0, 10),
    ...payloads.slice(20),
  ])
})

test('another encoding has pieces of its own, and equal messages are others', () => {
  const { all, encoded } = createPieces()
  const messages = [message('x'), message('y')]
  all(messages)
  all(messages, 'other')
  all([message('x'), message('y')])
  expect(encoded.count).toBe(6)
})

test('a message that is too large to be encoded stands alone', () => {
  const { all } = createPieces()
  expect(all(['1', 'unencodable', '2', '3', 'unencodable'].map(message))).toEqual(['1', undefined, '2', '3', undefined])
})

test('no more than some of them are kept', () => {
  const { all, encoded } = createPieces()
  const messages = Array.from({ length: 100 }, (_, index) => message(`${index}`.padEnd(50_000, 'x')))
  all(messages)
  all(messages)
  expect(encoded.count).toBeGreaterThan(150)
})
