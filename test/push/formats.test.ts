import { type CloudEvent, HTTP } from 'cloudevents'
import { Webhook } from 'standardwebhooks'
import { expect, test } from 'vitest'
import type { Message } from '../../src/mqtt/message.ts'
import { requestBody } from '../../src/push/formats.ts'
import { parseSecret, webhookHeaders } from '../../src/push/signature.ts'

const NOW = Date.parse('2026-11-26T12:00:00Z')
const message = (payload: string | Buffer, rest: Partial<Message> = {}): Message => ({
  topic: 'a/b',
  payload: Buffer.from(payload as string),
  qos: 1,
  retain: false,
  ...rest,
})
const item = (one: Message) => ({ message: one, id: 'msg_1', receivedAt: NOW - 4000 })
const byName = (headers: string[]): Record<string, string> =>
  Object.fromEntries(headers.flatMap((name, index) => (index % 2 === 0 ? [[name, headers[index + 1]!]] : [])))
const write = (format: 'message' | 'raw' | 'cloudevents', one: Message) => {
  const { body, headers } = requestBody([item(one)], { format, isBatch: false, source: '/causeway/x', nowMs: NOW })
  return { body, headers: byName(headers) }
}

test('`raw` is the payload, with its content type and what else it has in headers that nothing can forge', () => {
  const { body, headers } = write(
    'raw',
    message(Buffer.from([0, 255]), {
      topic: 'a/é\r\nx: y',
      redelivered: true,
      retain: true,
      properties: {
        contentType: 'image/png',
        messageExpiryInterval: 10,
        userProperties: { a: 'ü', traceparent: '00-1-2-01' },
      },
    }),
  )
  expect(body).toEqual(Buffer.from([0, 255]))
  expect(headers).toEqual({
    'content-type': 'image/png',
    'mqtt-qos': '1',
    'mqtt-topic': 'a/%C3%A9%0D%0Ax: y',
    'mqtt-retain': 'true',
    'mqtt-redelivered': 'true',
    'mqtt-message-expiry-interval': '6',
    'mqtt-user-properties': '{"a":"%C3%BC","traceparent":"00-1-2-01"}',
    traceparent: '00-1-2-01',
  })
})

test('`message` is the JSON of a stream, with what is left of its expiry interval', () => {
  const { body, headers } = write(
    'message',
    message('x', { properties: { messageExpiryInterval: 10 }, redelivered: true }),
  )
  expect(headers).toEqual({ 'content-type': 'application/json' })
  expect(JSON.parse(body.toString())).toEqual({
    topic: 'a/b',
    payload: 'x',
    encoding: 'utf8',
    qos: 1,
    retain: false,
    properties: { messageExpiryInterval: 6 },
    redelivered: true,
  })
})

test.each([
  ['{"a":1.50}', undefined, { datacontenttype: 'application/json', data: { a: 1.5 } }],
  ['text', undefined, { datacontenttype: 'text/plain; charset=utf-8', data: 'text' }],
  ['{"a":1}', 'text/plain', { datacontenttype: 'text/plain', data: '{"a":1}' }],
  ['{"a":1}', 'application/vnd.x+json', { datacontenttype: 'application/vnd.x+json', data: { a: 1 } }],
  ['not JSON', 'application/json', { datacontenttype: 'application/json', data_base64: 'bm90IEpTT04=' }],
  [Buffer.from([255]), undefined, { datacontenttype: 'application/octet-stream', data_base64: '/w==' }],
])('a CloudEvent of %j with the type %j is read by the reference package', (payload, contentType, expected) => {
  const one = message(payload, {
    redelivered: true,
    properties: {
      ...(contentType && { contentType }),
      userProperties: { traceparent: '00-1', id: 'forged', Bad: 'x' },
    },
  })
  const { body, headers } = write('cloudevents', one)
  const event = HTTP.toEvent({ headers, body: body.toString() }) as CloudEvent<unknown>
  event.validate()
  const { data, data_base64, ...attributes } = JSON.parse(body.toString()) as Record<string, unknown>
  expect({ ...(data !== undefined && { data }), ...(data_base64 !== undefined && { data_base64 }) }).toEqual(
    Object.fromEntries(Object.entries(expected).filter(([name]) => name !== 'datacontenttype')),
  )
  expect(attributes).toEqual({
    specversion: '1.0',
    id: 'msg_1',
    source: '/causeway/x',
    type: 'causeway.mqtt.message',
    subject: 'a/b',
    time: '2026-11-26T11:59:56.000Z',
    datacontenttype: expected.datacontenttype,
    redelivered: true,
    traceparent: '00-1',
  })
  expect(event.id).toBe('msg_1')
})

test('a batch of CloudEvents is read by the reference package', () => {
  const request = requestBody([item(message('1')), item(message('2'))], {
    format: 'cloudevents',
    isBatch: true,
    source: '/causeway',
    nowMs: NOW,
  })
  const headers = byName(request.headers)
  expect(headers['content-type']).toBe('application/cloudevents-batch+json; charset=utf-8')
  const events = HTTP.toEvent({ headers, body: request.body.toString() }) as CloudEvent<number>[]
  expect(events.map(({ data }) => data)).toEqual([1, 2])
})

test('the reference package accepts the signature of each key, and of no other body', () => {
  const secrets = [1, 2].map((seed) => `whsec_${Buffer.alloc(24, seed).toString('base64')}`)
  const body = Buffer.from('{"payload":"é"}')
  const headers = byName(webhookHeaders('msg_1', body, parseSecret(secrets.join(' '))!, Date.now()))
  for (const secret of secrets) {
    expect(new Webhook(secret).verify(body.toString(), headers)).toEqual({ payload: 'é' })
    expect(() => new Webhook(secret).verify('{}', headers)).toThrow()
  }
  expect(() =>
    new Webhook(`whsec_${Buffer.alloc(24, 3).toString('base64')}`).verify(body.toString(), headers),
  ).toThrow()
  expect(Object.keys(byName(webhookHeaders('msg_1', body, [], NOW)))).toEqual(['webhook-id', 'webhook-timestamp'])
})
