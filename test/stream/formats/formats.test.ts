import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { eventStream } from '../../../src/stream/formats/event-stream.ts'
import { ndjson } from '../../../src/stream/formats/ndjson.ts'

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(fc.constantFrom('\r', '\n', '\r\n', '\u2028', 'id: 9', 'data: x', ':', ' ', 'event: gap'))
    .map((parts) => parts.join('')),
)

test('exact bytes of server-sent events', () => {
  expect(eventStream.event('message', 'e-1', '{"a":1}').toString()).toBe('id: e-1\ndata: {"a":1}\n\n')
  expect(eventStream.event('gap', 'e-2', '{}').toString()).toBe('event: gap\nid: e-2\ndata: {}\n\n')
  expect(eventStream.event('message', undefined, '{}').toString()).toBe('data: {}\n\n')
  expect(eventStream.event('message', 'e-3', 'a\rb\nc\r\nd').toString()).toBe(
    'id: e-3\ndata: a\ndata: b\ndata: c\ndata: d\n\n',
  )
  expect(eventStream.retry(2000).toString()).toBe('retry: 2000\n')
  expect(eventStream.heartbeat.toString()).toBe(':\n')
})

test('no data can forge a field of a server-sent event', () => {
  fc.assert(
    fc.property(text, (data) => {
      const events: unknown[] = []
      createParser({ onEvent: (event) => events.push(event) }).feed(eventStream.event('status', 'e-1', data).toString())
      // The parser joins the data's lines by LF, whatever ended them.
      const expected = data.replace(/\r\n|\r/g, '\n').toWellFormed()
      expect(events).toEqual([{ event: 'status', id: 'e-1', data: expected }])
    }),
  )
})

test('exact bytes of NDJSON', () => {
  expect(ndjson.event('message', 'e-1', '{"a":1}').toString()).toBe('{"event":"message","id":"e-1","data":{"a":1}}\n')
  expect(ndjson.event('gap', undefined, '{}').toString()).toBe('{"event":"gap","data":{}}\n')
  expect(ndjson.heartbeat.toString()).toBe('{"event":"heartbeat"}\n')
  expect(ndjson.retry(1).length).toBe(0)
})

test('any JSON is one line of NDJSON with its data', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(0, 2), (value, indent) => {
      const line = ndjson.event('message', 'e-1', JSON.stringify(value, null, indent)).toString()
      expect(line.match(/[\r\n]/g)).toEqual(['\n'])
      expect(JSON.parse(line)).toEqual({ event: 'message', id: 'e-1', data: JSON.parse(JSON.stringify(value)) })
    }),
  )
})
