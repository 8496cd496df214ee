import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { CausewayError } from '../../src/errors.ts'
import { fromJson, type Message, toJsonText } from '../../src/mqtt/message.ts'
import { eventStream } from '../../src/stream/formats/event-stream.ts'
import { startBridge } from '../support/bridge.ts'
import { publishRaw } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
const text = (payload: string | Buffer, embedJson = true) =>
  toJsonText({ topic: 't', payload: Buffer.from(payload), qos: 1, retain: false }, embedJson)

test('a message that the broker sent again says so, and another one says nothing', () => {
  const message: Message = { topic: 't', payload: Buffer.from('x'), qos: 1, retain: false }
  const start = '{"topic":"t","payload":"x","encoding":"utf8","qos":1,"retain":false'
  expect(toJsonText({ ...message, redelivered: true }, false)).toBe(`${start},"redelivered":true}`)
  expect(toJsonText({ ...message, redelivered: false }, false)).toBe(`${start}}`)
  expect(toJsonText(message, false)).toBe(`${start}}`)
})

test.each<[string, string | Buffer, string]>([
  [
    'a large integer keeps its digits',
    '12345678901234567890',
    '{"topic":"t","payload":12345678901234567890,"encoding":"json","qos":1,"retain":false}',
  ],
  [
    'a number beyond doubles is no null',
    '[1e400]',
    '{"topic":"t","payload":[1e400],"encoding":"json","qos":1,"retain":false}',
  ],
  ['trailing zeros stay', '21.50', '{"topic":"t","payload":21.50,"encoding":"json","qos":1,"retain":false}'],
  [
    'line separators of other languages become escapes',
    '{"\u0085":"\u2028\u2029"}',
    '{"topic":"t","payload":{"\\u0085":"\\u2028\\u2029"},"encoding":"json","qos":1,"retain":false}',
  ],
  [
    'line breaks between values become spaces',
    '{\r\n"a":\n1}',
    '{"topic":"t","payload":{  "a": 1},"encoding":"json","qos":1,"retain":false}',
  ],
  [
    'escapes stay escapes',
    String.raw`"a\nb\u0000"`,
    String.raw`{"topic":"t","payload":"a\nb\u0000","encoding":"json","qos":1,"retain":false}`,
  ],
  [
    'a name of __proto__ is a name',
    '{"__proto__":1}',
    '{"topic":"t","payload":{"__proto__":1},"encoding":"json","qos":1,"retain":false}',
  ],
  [
    'a byte order mark makes it no JSON',
    '\ufeff1',
    '{"topic":"t","payload":"\ufeff1","encoding":"utf8","qos":1,"retain":false}',
  ],
  [
    'what closes the event and goes on is no JSON',
    '1},"x":{"a":1',
    String.raw`{"topic":"t","payload":"1},\"x\":{\"a\":1","encoding":"utf8","qos":1,"retain":false}`,
  ],
  [
    'bytes that are not UTF-8 are base64',
    Buffer.from([0xff, 0x31]),
    '{"topic":"t","payload":"/zE=","encoding":"base64","qos":1,"retain":false}',
  ],
])('of embedded JSON %s', (_name, payload, event) => {
  expect(text(payload)).toBe(event)
})

test('any JSON embedded in an event is the same value, on one line, whatever its white space', () => {
  fc.assert(
    fc.property(
      fc.json({ maxDepth: 1, stringUnit: 'binary' }),
      fc.constantFrom('', ' ', '\r\n', '\t'),
      (json, indent) => {
        const payload = JSON.stringify(JSON.parse(json), null, indent)
        const event = text(payload)
        expect(event).not.toMatch(/[\r\n]/)
        expect(JSON.parse(event)).toEqual({
          topic: 't',
          payload: JSON.parse(json),
          encoding: 'json',
          qos: 1,
          retain: false,
        })
        expect(JSON.parse(fromJson(JSON.parse(event)).payload.toString())).toEqual(JSON.parse(json))
      },
    ),
  )
})

test('any message is one server-sent event with exactly its JSON', () => {
  const bytes = fc.oneof(
    fc.uint8Array(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('\r\n\r\nid: 9\ndata: x\n\n', '"\r"', '[1,\r2]'),
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), bytes, fc.boolean(), (topic, payload, embedJson) => {
      const message: Message = {
        topic: topic.toWellFormed(),
        payload: Buffer.from(payload as string),
        qos: 2,
        retain: true,
        properties: { contentType: 'a\nb' },
      }
      const data = toJsonText(message, embedJson)
      const events: unknown[] = []
      createParser({ onEvent: (event) => events.push(event) }).feed(
        eventStream.event('message', 'e-1', data).toString(),
      )
      expect(events).toEqual([{ event: undefined, id: 'e-1', data }])
      expect(JSON.parse(data)).toMatchObject({
        topic: message.topic,
        qos: 2,
        retain: true,
        properties: { contentType: 'a\nb' },
      })
    }),
  )
})

// JSON.parse accepts any depth, but JSON.stringify overflows the stack: 10 kB of brackets once ended the process.
describe('JSON nested deeper than the stack', () => {
  test('is embedded as it is', () => {
    expect(text(nested(200_000))).toBe(
      `{"topic":"t","payload":${nested(200_000)},"encoding":"json","qos":1,"retain":false}`,
    )
  })

  test('reaches the readers of a bridge, which goes on', async () => {
    const bridge = await startBridge()
    await vi.waitFor(() => expect(bridge.isReachable()).toBe(true), 20_000)
    const stream = await openStream(`${bridge.url}/subscribe?topic=t&encoding=json`)
    expect(await publishRaw(bridge, 'topic=t', nested(20_000))).toMatchObject({ status: 200 })
    expect(await publishRaw(bridge, 'topic=t', '1')).toMatchObject({ status: 200 })
    const events = await stream.take(2)
    expect(events[1]!.data).toMatchObject({ payload: 1, encoding: 'json' })
    expect(stream.text()).toContain(`"payload":${nested(20_000)},`)
  })

  test('is refused as a payload whose text is not known, and published where it is', async () => {
    const read = (): unknown => {
      try {
        return String(fromJson({ topic: 't', payload: JSON.parse(nested(200_000)) }).payload)
      } catch (error) {
        return error
      }
    }
    const result = read()
    // From Node 26 on, JSON.stringify is not recursive.
    if (typeof result === 'string') expect(result === nested(200_000)).toBe(true)
    else expect(result).toBeInstanceOf(CausewayError)
    const bridge = await startBridge()
    const body = `{"topic":"t","payload":${nested(20_000)}}`
    const response = await fetch(`${bridge.url}/publish`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    })
    expect(response.status).toBe(200)
  })
})
