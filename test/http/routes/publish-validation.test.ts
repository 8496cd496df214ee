import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { type Bridge, BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { publish, publishRaw, send } from '../../support/http.ts'

const BAD_TOPICS: [name: string, topic: string, detail: RegExp][] = [
  ['nothing', '', /empty/],
  ['a wildcard +', 'a/+/b', /wildcards/],
  ['a wildcard #', 'a/#', /wildcards/],
  ['+ inside a level', 'a+b', /wildcards/],
  ['NUL', 'a\0b', /control characters/],
  ['CR and LF', 'a\r\nb', /control characters/],
  ['DEL', 'a\x7f', /control characters/],
  ['a C1 control character', 'a\x85', /control characters/],
  ['a non-character', 'a\ufdd0', /non-characters/],
  ['a non-character beyond the BMP', 'a\u{1fffe}', /non-characters/],
  ['a leading $', '$SYS/x', /\$/],
  ['more bytes than MQTT can say', 'ü'.repeat(32_768), /65535 bytes/],
  ['too many levels', '/'.repeat(100), /levels/],
]

describe.each(BROKERS)('a request that is not valid, on $name', ({ start }) => {
  test('no bad topic gets through, and none costs the connection others share', async () => {
    const bridge = await startBridge(await start())
    for (const [name, topic, detail] of [...BAD_TOPICS, ['a lone surrogate', 'a\ud800', /surrogates/] as const]) {
      const { status, headers, body } = await publish(bridge, { topic })
      expect(status, name).toBe(400)
      expect(headers.get('content-type')).toBe('application/problem+json')
      expect(body, name).toMatchObject({
        code: 'invalid-request',
        errors: [{ in: 'body', pointer: '#/topic', detail: expect.stringMatching(detail) }],
      })
      expect(body.errors).toHaveLength(1)
    }
    for (const [name, topic, detail] of BAD_TOPICS.filter(([, { length }]) => length < 1000)) {
      const { status, body } = await publishRaw(bridge, `topic=${encodeURIComponent(topic)}`, 'x')
      expect(status, name).toBe(400)
      expect(body, name).toMatchObject({
        errors: [{ in: 'query', pointer: '#/topic', detail: expect.stringMatching(detail) }],
      })
    }
    expect(await publish(bridge, { topic: 'good' })).toMatchObject({ status: 200 })
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })
})

async function problemOf(message: unknown): Promise<{ status: number; faults: [string, string][] }> {
  const { status, body } = await publish(await startBridge(), message)
  return {
    status,
    faults: (body.errors ?? []).map(({ pointer, detail }: { pointer: string; detail: string }) => [pointer, detail]),
  }
}

test('every fault of a message is listed with its pointer', async () => {
  const properties = {
    contentType: 'a\0',
    responseTopic: 'a/#',
    correlationData: '%',
    messageExpiryInterval: -1,
    payloadFormatIndicator: 'yes',
    userProperties: { 'a\r': 'x', ok: ['x', 'y\0'], number: 1 },
    other: 1,
  }
  const { status, faults } = await problemOf({
    topic: 'a/+',
    payload: 5,
    encoding: 'utf8',
    qos: 3,
    retain: 'no',
    more: 1,
    properties,
  })
  expect(status).toBe(400)
  expect(faults.map(([pointer]) => pointer).toSorted()).toEqual([
    '#/more',
    '#/payload',
    '#/properties/contentType',
    '#/properties/correlationData',
    '#/properties/messageExpiryInterval',
    '#/properties/other',
    '#/properties/payloadFormatIndicator',
    '#/properties/responseTopic',
    '#/properties/userProperties/a%0D',
    '#/properties/userProperties/number',
    '#/properties/userProperties/ok/1',
    '#/qos',
    '#/retain',
    '#/topic',
  ])
})

test.each<[string, unknown, [string, string | RegExp][]]>([
  ['no topic', {}, [['#/topic', 'is missing']]],
  ['a topic that is a number', { topic: 5 }, [['#/topic', 'must be string']]],
  ['no object', [], [['#', 'must be object']]],
  ['null', null, [['#', 'must be object']]],
  ['a QoS in quotes', { topic: 'a', qos: '1' }, [['#/qos', 'must be one of 0, 1, 2']]],
  [
    'base64 that is none',
    { topic: 'a', payload: 'a-b', encoding: 'base64' },
    [['#/payload', 'must be base64 with padding']],
  ],
  ['base64 that is no string', { topic: 'a', payload: 5, encoding: 'base64' }, [['#/payload', 'must be string']]],
  ['an unknown encoding', { topic: 'a', encoding: 'hex' }, [['#/encoding', 'must be one of "utf8", "base64", "json"']]],
  [
    'a lone surrogate as payload',
    { topic: 'a', payload: '\udfff' },
    [['#/payload', 'must not contain lone surrogates']],
  ],
  ['names that need escaping', { topic: 'a', 'a/b~#%ü': 1 }, [['#/a~1b~0%23%25%C3%BC', 'is not a known name']]],
  [
    'user properties named like line ends that are none',
    { topic: 'a', properties: { userProperties: { '\u2028': null, '\u2029': [null] } } },
    [
      ['#/properties/userProperties/%E2%80%A8', 'must be string or array'],
      ['#/properties/userProperties/%E2%80%A9/0', 'must be string'],
    ],
  ],
  ['a name with a lone surrogate', { topic: 'a', '\ud800': 1 }, [['#/%EF%BF%BD', 'is not a known name']]],
])('%s is told where and why', async (_name, message, faults) => {
  expect(await problemOf(message)).toEqual({ status: 400, faults })
})

test('of a million faults no more are looked at than are told', async () => {
  const bridge = await startBridge()
  const { body } = await publish(bridge, { topic: 'a', properties: { userProperties: { a: Array(50_000).fill(1) } } })
  expect(body.errors).toHaveLength(50)
  expect(body.detail).toMatch(/a\/2 must be string; and at least 47 more$/)
})

test('a message of a million faults gets an answer of bounded length', async () => {
  const { faults } = await problemOf({
    topic: 'a',
    ...Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`x${index}`, 1])),
  })
  expect(faults).toHaveLength(50)
})

async function postBody(body: string | Buffer, type = 'application/json') {
  const bridge = await startBridge()
  const response = await fetch(`${bridge.url}/publish`, {
    method: 'POST',
    body: body as string,
    headers: { 'content-type': type },
  })
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    body: (await response.json()) as { code: string },
  }
}

test.each([
  ['JSON that ends early', '{"topic":'],
  ['nothing', ''],
  ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ['__proto__ in the message', '{"topic":"a","__proto__":{"retain":true}}'],
  ['__proto__ among the properties', '{"topic":"a","properties":{"__proto__":{"contentType":"x"}}}'],
  ['__proto__ with a value that is none', '{"topic":"a","properties":{"userProperties":{"__proto__":{"x":"y"}}}}'],
])('a body of %s is 400', async (_name, body) => {
  expect(await postBody(body)).toMatchObject({
    status: 400,
    type: 'application/problem+json',
    body: { code: 'invalid-request', retryable: false },
  })
})

test.each([
  'text/plain',
  'application/x-www-form-urlencoded',
  'application/jsonp',
  'application/problem+json',
  'foo',
  'multipart/form-data; boundary=x',
])('a message sent as %s without a topic in the query is 415', async (type) => {
  expect(await postBody('{"topic":"a"}', type)).toMatchObject({
    status: 415,
    type: 'application/problem+json',
    body: { code: 'unsupported-media-type' },
  })
})

test.each(['application/json; charset=utf-8', 'Application/JSON', 'application/json;charset=utf-8'])(
  'JSON may be sent as %s',
  async (type) => {
    expect(await postBody('{"topic":"a"}', type)).toMatchObject({ status: 200 })
  },
)

test.each<[string, string, string[]]>([
  ['an unknown parameter', 'topic=a&reatin=true', ['#/reatin']],
  ['a repeated parameter', 'topic=a&topic=b', ['#/topic']],
  ['a repeated QoS', 'topic=a&qos=1&qos=2', ['#/qos']],
  ['+ in a topic, which is no space', 'topic=a+b', ['#/topic']],
  ['several at once', 'topic=%23&qos=3&retain=maybe&expiry=-1', ['#/expiry', '#/qos', '#/retain', '#/topic']],
  ['an empty value', 'topic=a&qos=', ['#/qos']],
  ['bytes that are not UTF-8', 'topic=a%FFb', ['#/topic']],
  ['half a percent sign', 'topic=a%2', ['#/topic']],
])('a query with %s is 400', async (_name, query, pointers) => {
  const { status, body } = await publishRaw(await startBridge(), query, 'x')
  expect(status).toBe(400)
  expect(body.errors.map(({ pointer }: { pointer: string }) => pointer).toSorted()).toEqual(pointers)
  expect(body.errors.every((fault: { in: string }) => fault.in === 'query')).toBe(true)
})

test('what belongs to a raw payload is refused without a topic in the query', async () => {
  const bridge = await startBridge()
  const response = await fetch(`${bridge.url}/publish?qos=2`, {
    method: 'POST',
    body: '{"topic":"a"}',
    headers: { 'content-type': 'application/json' },
  })
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({
    errors: [{ in: 'query', detail: 'is only allowed together with topic' }],
  })
})

async function exchange(bridge: Bridge, request: string): Promise<string> {
  const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1')
  let answer = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    answer += chunk
  })
  socket.write(request)
  await once(socket, 'close')
  return answer
}

test.each([
  [
    'unescaped bytes in the address',
    'POST /publish?topic=häuser HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n',
    '400',
  ],
  ['headers without end', `POST /publish?topic=a HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, '431'],
  ['no HTTP at all', '\x16\x03\x01\x02\0', '400'],
])('%s get a problem document and the connection closed', async (_name, request, status) => {
  const answer = await exchange(await startBridge(), request)
  expect(answer).toMatch(
    new RegExp(`^HTTP/1.1 ${status} [^]*Content-Type: application/problem\\+json[^]*"status":${status}`, 'i'),
  )
})

test('an address that would be a malformed route pattern is 404', async () => {
  const bridge = await startBridge()
  for (const path of ['/a*b', '/publish*x', '/(', '/:a(']) {
    expect((await send(bridge, 'PUT', path)).status, path).toBe(404)
  }
})
