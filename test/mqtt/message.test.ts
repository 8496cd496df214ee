import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fromJson, type MessageProperties, toJsonText } from '../../src/mqtt/message.ts'

test.each([
  [{ topic: 't', payload: 'x' }, 'x'],
  [{ topic: 't' }, ''],
  [{ topic: 't', payload: 'AP8=', encoding: 'base64' as const }, Buffer.from([0, 255])],
  [{ topic: 't', payload: 'x', encoding: 'json' as const }, '"x"'],
  [{ topic: 't', payload: { a: [1, null] } }, '{"a":[1,null]}'],
  [{ topic: 't', payload: null }, 'null'],
  [{ topic: 't', payload: 0 }, '0'],
  [{ topic: 't', payload: false }, 'false'],
])('%j has the bytes it says', (json, bytes) => {
  expect(fromJson(json).payload).toEqual(Buffer.from(bytes as string))
})

test('is QoS 1 and not retained unless it says so', () => {
  expect(fromJson({ topic: 't' })).toMatchObject({ qos: 1, retain: false })
})

test('any message posted back from its event is the same message', () => {
  const message = fc.record({
    topic: fc.string({ minLength: 1 }),
    payload: fc
      .oneof(
        fc.uint8Array(),
        fc.string().map((text) => new TextEncoder().encode(text)),
        fc.json().map((text) => new TextEncoder().encode(text)),
      )
      .map(Buffer.from),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
    retain: fc.boolean(),
    properties: fc.option(
      fc.constant<MessageProperties>({ contentType: 'text/plain', userProperties: { a: ['1', '2'] } }),
      { nil: undefined },
    ),
  })
  fc.assert(
    fc.property(message, (sent) => {
      const text = toJsonText(sent, false)
      expect(text).not.toMatch(/[\r\n]/)
      expect(fromJson(JSON.parse(text))).toEqual(sent)
    }),
  )
})

test('embeds payloads that are JSON where asked to, and only those', () => {
  const event = (payload: string | Buffer) =>
    JSON.parse(toJsonText({ topic: 't', payload: Buffer.from(payload), qos: 0, retain: false }, true))
  expect(event('{"a":1}')).toMatchObject({ payload: { a: 1 }, encoding: 'json' })
  expect(event('21.5')).toMatchObject({ payload: 21.5, encoding: 'json' })
  expect(event('on')).toMatchObject({ payload: 'on', encoding: 'utf8' })
  expect(event('')).toMatchObject({ payload: '', encoding: 'utf8' })
  expect(event(Buffer.from([0xff]))).toMatchObject({ payload: '/w==', encoding: 'base64' })
})
