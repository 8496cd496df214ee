import { expect, test } from 'vitest'
import { negotiate } from '../../../src/http/message/stream-encodings.ts'

const SSE = 'text/event-stream; charset=utf-8'
const NDJSON = 'application/x-ndjson; charset=utf-8'

test.each([
  [undefined, SSE],
  ['', SSE],
  ['*/*', SSE],
  ['text/*', SSE],
  ['text/event-stream', SSE],
  ['Text/Event-Stream; charset=utf-8', SSE],
  ['application/x-ndjson', NDJSON],
  ['application/*', NDJSON],
  ['APPLICATION/X-NDJSON ; q=0.1', NDJSON],
  ['application/x-ndjson, text/event-stream', SSE],
  ['application/x-ndjson, */*;q=0.1', NDJSON],
  ['text/event-stream;q=0.4, application/x-ndjson;q=0.5', NDJSON],
  ['text/event-stream;q=0.5, application/x-ndjson;q=0.4', SSE],
  // The most specific range decides, not the one that comes first or weighs most.
  ['*/*, text/event-stream;q=0', NDJSON],
  ['*/*;q=0.8, text/event-stream;q=0.2', NDJSON],
  ['*/*;q=0.1, application/x-ndjson;q=0', SSE],
  ['application/json, */*;q=0', undefined],
  ['application/json', undefined],
  ['text/event-stream;q=0', undefined],
  ['text/event-stream;q=nonsense', undefined],
  ['text/html, application/json;q=0.9', undefined],
])('Accept: %s gets %s', (accept, expected) => {
  if (expected === undefined) {
    expect(() => negotiate(accept, false)).toThrowError(
      expect.objectContaining({ kind: expect.objectContaining({ code: 'not-acceptable', status: 406 }) }),
    )
  } else expect(negotiate(accept, false).format.contentType).toBe(expected)
})

test('encodings that embed JSON have a name of their own, and with it channels', () => {
  const names = ['text/event-stream', 'application/x-ndjson'].flatMap((accept) =>
    [false, true].map((embed) => negotiate(accept, embed).name),
  )
  expect(new Set(names).size).toBe(4)
})
