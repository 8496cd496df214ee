import { describe, expect, test } from 'vitest'
import { type Bridge, brokerUrl, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { send } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { startResponder } from '../../support/responder.ts'
import { openStream } from '../../support/stream.ts'

const JSON_TYPE = { 'content-type': 'application/json' }
const TEXTS = [
  '{"id":1724442618569203714}',
  '1e400',
  '21.50',
  '{ "b" : 1,\t"a":2,"1":0 }',
  '{"a":1,"a":2}',
  String.raw`{"s":"\u0041\/\ud800"}`,
  '['.repeat(20_000) + ']'.repeat(20_000),
  '{"__proto__":{"toString":1}}',
]

const post = (bridge: Bridge, body: string, path = '/publish', type = JSON_TYPE['content-type']) =>
  send(bridge, 'POST', path, { 'content-type': type }, body)

test.each(TEXTS)('a payload in JSON is published as its text: %.40s', async (text) => {
  const bridge = await startBridge()
  const messages = await collect(await mqttClient(brokerUrl(bridge, {})), 'a')
  const message = `{"topic":"a" , "payload" : ${text} }`
  expect((await post(bridge, message)).status).toBe(200)
  expect((await post(bridge, `[ ${message}, {"topic":"a","payload":1.0}]`, '/publish/batch')).status).toBe(200)
  const lines = await post(bridge, `${message}\n${message}`, '/publish/batch', 'application/x-ndjson')
  expect(lines.body).toContain('"published":2')
  const sent: string[] = []
  for (let count = 0; count < 5; count += 1) sent.push((await messages.next()).payload.toString())
  expect(sent).toEqual([text, text, '1.0', text, text])
})

test('what a stream embeds is the same bytes when it is posted back', async () => {
  const bridge = await startBridge()
  const messages = await collect(await mqttClient(brokerUrl(bridge, {})), 'a')
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&encoding=json`)
  for (const text of [...TEXTS, '"text"', 'null', '"\\ud800"']) {
    await send(bridge, 'POST', '/publish?topic=a', {}, text)
    expect((await messages.next()).payload.toString()).toBe(text)
    await stream.take(1)
    const event = stream
      .text()
      .split('\n')
      .findLast((line) => line.startsWith('data: {"topic"'))!
    const { status, body } = await post(bridge, event.slice('data: '.length))
    expect([status, body.code]).toEqual([200, undefined])
    expect((await messages.next()).payload.toString()).toBe(text)
    await stream.take(1)
  }
})

test('a member that is there twice is refused, in every form', async () => {
  const bridge = await startBridge()
  const message = '{"topic":"a","topic":"b"}'
  const fault = { code: 'invalid-request', errors: [{ pointer: '#/topic', detail: 'is there more than once' }] }
  expect(await post(bridge, message)).toMatchObject({ status: 400, body: fault })
  expect((await post(bridge, message, '/request')).status).toBe(400)
  expect((await post(bridge, `[${message}]`, '/publish/batch')).body).toMatchObject([{ problem: fault }])
  const lines = (await post(bridge, message, '/publish/batch', 'application/x-ndjson')).body as string
  expect(JSON.parse(lines.split('\n')[0]!)).toMatchObject({ problem: fault })
})

describe.runIf(hasMosquitto)('POST /request', () => {
  test('sends the payload as its text', async () => {
    const broker = await startMosquitto()
    await startResponder(broker.url, 'q', (payload, reply) => reply(payload))
    const bridge = await startBridge({ MQTT_URL: broker.url })
    expect((await post(bridge, '{"topic":"q","payload": 1.50 }', '/request')).body).toBe('1.50')
  })
})

describe('the limit of a payload', () => {
  const LIMIT = 1000
  const base64 = (bytes: number) =>
    JSON.stringify({ topic: 'a', payload: Buffer.alloc(bytes, 0xff).toString('base64'), encoding: 'base64' })
  const control = (bytes: number) => JSON.stringify({ topic: 'a', payload: '\u0001'.repeat(bytes) })

  test.each([base64, control])('counts its bytes, not those of the JSON', async (make) => {
    const bridge = await startBridge({ BODY_LIMIT_BYTES: LIMIT })
    expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x'.repeat(LIMIT))).status).toBe(200)
    expect((await send(bridge, 'POST', '/publish?topic=a', {}, 'x'.repeat(LIMIT + 1))).status).toBe(413)
    for (const [bytes, status] of [
      [LIMIT, 200],
      [LIMIT + 1, 413],
    ] as const) {
      expect((await post(bridge, make(bytes))).status).toBe(status)
      const [one] = (await post(bridge, `[${make(bytes)}]`, '/publish/batch')).body
      expect(one.status ?? one.problem.status).toBe(status)
    }
  })
})

test('a + in the topic of a query is answered with %20, as forms send it for a space', async () => {
  const bridge = await startBridge()
  const published = await send(bridge, 'POST', '/publish?topic=living+room', {}, 'x')
  expect([published.status, published.body.detail]).toEqual([400, expect.stringContaining('%20')])
  const followed = await send(bridge, 'GET', '/subscribe?topic=living+room')
  expect([followed.status, followed.body.detail]).toEqual([400, expect.stringContaining('%20')])
})
