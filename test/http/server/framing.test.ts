import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { exchange } from '../../support/raw-http.ts'

const INNER = 'POST /publish?topic=smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n'
const post = (...headers: string[]) =>
  ['POST /publish?topic=outer HTTP/1.1', 'Host: localhost', ...headers, '', ''].join('\r\n')

/*
 * Request smuggling: a proxy in front and the bridge have to agree where a request ends. If a request can be read in
 * two ways, one of them with a second request in its body, an attacker could get that second request past the
 * proxy's rules, or have its answer delivered to another client of the proxy.
 */
const SHAPES: [name: string, request: string][] = [
  [
    'Content-Length and Transfer-Encoding',
    `${post('Content-Length: 4', 'Transfer-Encoding: chunked')}0\r\n\r\n${INNER}`,
  ],
  [
    'Transfer-Encoding and Content-Length',
    `${post('Transfer-Encoding: chunked', `Content-Length: ${INNER.length + 5}`)}0\r\n\r\n${INNER}`,
  ],
  ['two lengths', `${post('Content-Length: 0', `Content-Length: ${INNER.length}`)}${INNER}`],
  ['two lengths that are the same', `${post('Content-Length: 0', 'Content-Length: 0')}${INNER}`],
  ['a list of lengths', `${post(`Content-Length: 0, ${INNER.length}`)}${INNER}`],
  ['a length with a sign', `${post('Content-Length: +0')}${INNER}`],
  ['a negative length', `${post('Content-Length: -1')}${INNER}`],
  ['a hexadecimal length', `${post('Content-Length: 0x0')}${INNER}`],
  ['a length with a space inside', `${post('Content-Length: 0 0')}${INNER}`],
  ['a length too large for any number', `${post(`Content-Length: ${'9'.repeat(40)}`)}${INNER}`],
  ['an empty length', `${post('Content-Length:')}${INNER}`],
  ['a space before the colon', `${post('Content-Length : 0', 'Transfer-Encoding : chunked')}${INNER}`],
  ['a space before a name', `${post(' Content-Length: 0')}${INNER}`],
  ['a coding on a line that continues', `${post('Transfer-Encoding:\r\n chunked')}0\r\n\r\n${INNER}`],
  ['a length on a line that continues', `${post('X: y\r\n Content-Length: 5')}${INNER}`],
  ['a coding that is none', `${post('Transfer-Encoding: xchunked')}0\r\n\r\n${INNER}`],
  ['a coding that is not the last', `${post('Transfer-Encoding: chunked, identity')}0\r\n\r\n${INNER}`],
  ['two codings', `${post('Transfer-Encoding: chunked', 'Transfer-Encoding: identity')}0\r\n\r\n${INNER}`],
  ['a coding with a control character', `${post('Transfer-Encoding: \x0bchunked')}0\r\n\r\n${INNER}`],
  ['a coding in quotes', `${post('Transfer-Encoding: "chunked"')}0\r\n\r\n${INNER}`],
  ['a chunk size that is none', `${post('Transfer-Encoding: chunked')}0x0\r\n\r\n${INNER}`],
  ['a chunk size with a sign', `${post('Transfer-Encoding: chunked')}+0\r\n\r\n${INNER}`],
  ['a chunk size that overflows', `${post('Transfer-Encoding: chunked')}fffffffffffffffff0\r\n\r\n${INNER}`],
  ['a chunk size with a space', `${post('Transfer-Encoding: chunked')}0 0\r\n\r\n${INNER}`],
  ['a chunk extension with a line feed', `${post('Transfer-Encoding: chunked')}0;a\nb\r\n\r\n${INNER}`],
  ['a chunk that is longer than it says', `${post('Transfer-Encoding: chunked')}1\r\nabc\r\n0\r\n\r\n${INNER}`],
  ['a chunk ended by a line feed', `${post('Transfer-Encoding: chunked')}1\r\na\n0\r\n\r\n${INNER}`],
  ['line feeds alone', `${post('Content-Length: 0').replaceAll('\r\n', '\n')}${INNER}`],
  ['a carriage return alone', `${post('X: a\rContent-Length: 5')}${INNER}`],
  ['NUL in a header', `${post('X: a\0b')}${INNER}`],
  ['NUL in a name', `${post('Content-Length\0: 5')}${INNER}`],
  ['a line without a colon', `${post('Content-Length')}${INNER}`],
  ['no Host', `POST /publish?topic=outer HTTP/1.1\r\nContent-Length: 0\r\n\r\n${INNER}`],
  ['two Hosts', `${post('Host: b')}${INNER}`],
  ['a version that is none', `${post().replace('1.1', '1.9')}${INNER}`],
  ['no version', `POST /publish?topic=outer\r\n\r\n${INNER}`],
  ['the preface of HTTP/2', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${INNER}`],
  ['a space in the address', `${post().replace('=outer', '=out er')}${INNER}`],
]

async function published(bridge: Bridge): Promise<number> {
  return metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="no_subscribers"}')
}

describe('a request that can be read in two ways', () => {
  test('is refused and the connection closed, with nothing of it done', async () => {
    const bridge = await startBridge()
    for (const [name, request] of SHAPES) {
      const { answers, closed } = await exchange(bridge.url, Buffer.from(request, 'latin1'), ['POST', 'POST'])
      expect(
        answers.map(({ status, headers }) => [status, headers.get('content-type'), headers.get('connection')]),
        name,
      ).toEqual([[400, 'application/problem+json', 'close']])
      expect(closed, name).toBe(true)
    }
    expect(await published(bridge)).toBe(0)
  })

  test('asks for a tunnel: the connection is closed without a word', async () => {
    const bridge = await startBridge()
    expect(
      await exchange(bridge.url, Buffer.from(`CONNECT a:80 HTTP/1.1\r\nHost: localhost\r\n\r\n${INNER}`), ['CONNECT']),
    ).toMatchObject({ answers: [], closed: true })
    expect(await published(bridge)).toBe(0)
  })
})

const LAST: [name: string, request: string][] = [
  ['the last one', `${post('Connection: close', 'Content-Length: 0')}${INNER}`],
  ['the last one, of HTTP/1.0', `${post('Content-Length: 0').replace('1.1', '1.0')}${INNER}`],
  ['chunked over HTTP/1.0', `${post('Transfer-Encoding: chunked').replace('1.1', '1.0')}0\r\n\r\n${INNER}`],
  ['one that asks for an upgrade', `${post('Connection: upgrade', 'Upgrade: h2c', 'Content-Length: 0')}${INNER}`],
]

test.each(LAST)('what is behind a request that is %s is none', async (_name, request) => {
  const bridge = await startBridge()
  const { answers, closed } = await exchange(bridge.url, Buffer.from(request), ['POST', 'POST'])
  expect(answers.map(({ status, headers }) => [status, headers.get('connection')])).toEqual([[200, 'close']])
  expect(closed).toBe(true)
  expect(await published(bridge)).toBe(1)
})

test('a body that looks like a request is a body', async () => {
  const bridge = await startBridge()
  for (const framed of [
    `Content-Length: ${INNER.length}\r\n\r\n${INNER}`,
    `Transfer-Encoding: chunked\r\n\r\n${INNER.length.toString(16)}\r\n${INNER}\r\n0\r\n\r\n`,
  ]) {
    for (const method of ['POST /publish?topic=a', 'GET /livez', 'DELETE /retained?topic=a', 'PUT /nothing']) {
      const { answers } = await exchange(
        bridge.url,
        Buffer.from(`${method} HTTP/1.1\r\nHost: localhost\r\n${framed}GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n`),
        [method, 'GET'],
      )
      expect(answers).toHaveLength(2)
      expect(answers[1]).toMatchObject({ status: 200 })
    }
  }
  expect(await published(bridge)).toBe(2)
})

describe('requests that do not wait for the answer before', () => {
  test('are answered in order', async () => {
    const bridge = await startBridge()
    const requests = Array.from({ length: 50 }, (_, index) =>
      index % 3 === 0 ? 'GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n' : INNER,
    )
    const { answers } = await exchange(
      bridge.url,
      Buffer.from(requests.join('')),
      requests.map(() => 'POST'),
    )
    expect(answers.map(({ status }) => status)).toEqual(requests.map((_, index) => (index % 3 === 0 ? 404 : 200)))
  })

  test('are bounded in number', async () => {
    const bridge = await startBridge()
    const { answers, closed } = await exchange(
      bridge.url,
      Buffer.from(INNER.repeat(400)),
      Array.from({ length: 400 }, () => 'POST'),
    )
    expect(closed).toBe(true)
    expect(answers.length).toBeLessThan(400)
    expect(await published(bridge)).toBeLessThan(200)
  })

  test('behind a stream leave nothing open when the connection ends', async () => {
    const bridge = await startBridge({ STREAM_MAX: 3 })
    const stream = 'GET /subscribe?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n'
    for (let times = 0; times < 5; times += 1) {
      const { answers } = await exchange(bridge.url, Buffer.from(stream.repeat(3)), ['GET', 'GET', 'GET'])
      expect(answers).toMatchObject([{ status: 200, isOpen: true }])
      await expectNothingLeft(bridge)
    }
  })

  test('and are none never put an answer into that of an earlier one', async () => {
    const bridge = await startBridge()
    for (const path of ['/subscribe?topic=a', '/metrics', '/retained?topic=a/%23']) {
      const { text } = await exchange(
        bridge.url,
        Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\nno HTTP\r\n\r\n`),
        ['GET', 'GET'],
      )
      expect(text).not.toContain('400 Bad Request')
    }
    await expectNothingLeft(bridge)
  })
})

test('a body that breaks off behind its answer gets no second one', async () => {
  const bridge = await startBridge()
  for (const request of [
    'GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n',
    'POST /publish/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: ' +
      'application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{"topic":"a"}\n      \r\n',
  ]) {
    const { answers, closed } = await exchange(bridge.url, Buffer.from(request), ['GET', 'GET'], { ending: 'end' })
    expect(answers.length).toBeLessThan(2)
    expect(closed).toBe(true)
  }
})

test('a stream ends with its client, whatever body came with the request', async () => {
  const bridge = await startBridge()
  const body = 'x'.repeat(500_000)
  await exchange(
    bridge.url,
    Buffer.from(`GET /subscribe?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
    ['GET', 'GET'],
    { ending: 'end' },
  )
  await expectNothingLeft(bridge)
})

test('an expectation that nobody knows is none', async () => {
  const bridge = await startBridge()
  const { answers } = await exchange(bridge.url, Buffer.from(post('Expect: the unexpected', 'Content-Length: 0')), [
    'POST',
  ])
  expect(answers).toMatchObject([{ status: 200 }])
})

test.each(['/publish', '/request', '/publish/batch', '/sessions/x/ack'])(
  'POST %s without a body is a request that is not valid',
  async (path) => {
    const bridge = await startBridge()
    const { answers } = await exchange(bridge.url, Buffer.from(`POST ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`), [
      'POST',
    ])
    expect(answers[0]!.headers.get('content-type')).toBe('application/problem+json')
    expect(answers[0]!.status).toBeLessThan(500)
  },
)
