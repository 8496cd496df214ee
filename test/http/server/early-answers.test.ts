import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { openSession } from '../../support/http2.ts'
import { exchange } from '../../support/raw-http.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

const one = makeToken('one', ['#'])
const auth = `Authorization: ${one.headers.authorization}`

/** What the headers say is enough for the answer. */
const BY_THE_HEAD: [string, number, string, string[]][] = [
  ['nobody known', 401, 'POST /publish?topic=a', ['Content-Length: 9']],
  ['nobody known, a body that may never end', 401, 'POST /publish/batch', ['Transfer-Encoding: chunked']],
  ['an address that does not exist', 404, 'POST /nowhere', ['Content-Length: 9']],
  ['a method that is not supported', 405, 'PUT /publish?topic=a', ['Content-Length: 9']],
  ['a body that is too large', 413, 'POST /publish?topic=a', [auth, 'Content-Length: 2000000']],
  [
    'an array that is too large',
    413,
    'POST /publish/batch',
    [auth, 'Content-Length: 20000000', 'Content-Type: application/json'],
  ],
  ['a type that nobody reads', 415, 'POST /publish', [auth, 'Content-Length: 9', 'Content-Type: text/xml']],
  ['a type that no batch has', 415, 'POST /publish/batch', [auth, 'Content-Length: 9', 'Content-Type: text/xml']],
  ['a body that is compressed', 415, 'POST /publish?topic=a', [auth, 'Content-Length: 9', 'Content-Encoding: gzip']],
  [
    'lines that are compressed',
    415,
    'POST /publish/batch',
    [auth, 'Content-Type: application/x-ndjson', 'Content-Encoding: br', 'Transfer-Encoding: chunked'],
  ],
]

describe('what the headers decide is answered before the body comes', () => {
  test.each(BY_THE_HEAD)('%s', async (_name, status, request, headers) => {
    const bridge = await startBridge(tokenFile([one]).settings)
    for (const expectation of [[], ['Expect: 100-continue']]) {
      const head = [`${request} HTTP/1.1`, 'Host: localhost', ...headers, ...expectation, '', ''].join('\r\n')
      const { answers, text } = await exchange(bridge.url, Buffer.from(head), ['POST'])
      expect(answers.map((answer) => answer.status)).toEqual([status])
      expect(text).not.toContain('100 Continue')
    }
  })

  test('over HTTP/2', async () => {
    const bridge = await startSecureBridge(tokenFile([one]).settings)
    const session = await openSession(bridge.url, bridge.ca)
    for (const [name, status, request, headers] of BY_THE_HEAD) {
      const [method, path] = request.split(' ')
      const fields = headers
        .map((header) => header.split(': ') as [string, string])
        .filter(([header]) => header !== 'Transfer-Encoding')
      const stream = session.request({ ':method': method, ':path': path, ...Object.fromEntries(fields) })
      stream.on('error', () => {})
      const [answer] = await once(stream, 'response')
      expect([name, answer[':status']]).toEqual([name, status])
      stream.close()
    }
  })

  test('415 says which encoding is accepted', async () => {
    const bridge = await startBridge()
    const request = (encoding: string) =>
      `POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: ${encoding}\r\nContent-Length: 1\r\n\r\nx`
    const { answers } = await exchange(bridge.url, Buffer.from(request('gzip')), ['POST'])
    expect([answers[0]!.status, answers[0]!.headers.get('accept-encoding')]).toEqual([415, 'identity'])
    expect((await exchange(bridge.url, Buffer.from(request('Identity')), ['POST'])).answers[0]!.status).toBe(200)
  })
})

test('who waits for 100 gets it once the body is wanted', async () => {
  const bridge = await startBridge()
  for (const [path, type, body] of [
    ['/publish?topic=a', 'text/plain', 'x'],
    ['/publish/batch', 'application/x-ndjson', '{"topic":"a"}'],
  ] as const) {
    const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n` +
        'Expect: 100-continue\r\n\r\n',
    )
    expect(String((await once(socket, 'data'))[0])).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    socket.write(body)
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 200 OK/)
  }
})

/** Sends all of the request before it reads, as many clients and proxies do. */
async function sendAllThenRead(bridge: Bridge, head: string[], bytes: number): Promise<string> {
  const socket = connect({ port: Number(new URL(bridge.url).port), host: '127.0.0.1' })
  onTestFinished(() => void socket.destroy())
  let failure: Error | undefined
  socket.on('error', (error) => (failure = error))
  socket.pause()
  socket.write(`${[...head, 'Host: localhost', `Content-Length: ${bytes}`].join('\r\n')}\r\n\r\n`)
  const piece = Buffer.alloc(1_000_000, 'x')
  for (let sent = 0; sent < bytes && failure === undefined; sent += piece.length) {
    await new Promise<void>((resolve) => socket.write(piece.subarray(0, bytes - sent), () => resolve()))
  }
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  socket.resume()
  await expect.poll(() => text.includes('}') || failure !== undefined).toBe(true)
  expect(failure).toBeUndefined()
  return text
}

test.each([
  ['too large', 413, ['POST /publish?topic=a HTTP/1.1', auth]],
  // nginx speaks HTTP/1.0 to its upstreams unless told otherwise, where each answer is the last.
  ['too large, of HTTP/1.0', 413, ['POST /publish?topic=a HTTP/1.0', auth]],
  ['too large, of nobody known', 401, ['POST /publish?topic=a HTTP/1.1']],
  ['to nowhere, the last of its connection', 404, ['POST /nowhere HTTP/1.1', 'Connection: close']],
  ['of a type that nobody reads', 415, ['POST /publish HTTP/1.1', auth, 'Content-Type: text/xml']],
])('a client that sends all of a body first sees its answer: %s', async (_name, status, head) => {
  const bridge = await startBridge(tokenFile([one]).settings)
  expect(await sendAllThenRead(bridge, head, 20_000_000)).toContain(` ${status} `)
})

test('a request behind a body that was refused is answered on the same connection', async () => {
  const bridge = await startBridge()
  const refused = `POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`
  const next = 'POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx'
  const { answers } = await exchange(bridge.url, Buffer.from(refused + next), ['POST', 'POST'], { cuts: [300, 50_000] })
  expect(answers.map(({ status }) => status)).toEqual([404, 200])
})

test('what stands behind the last answer of a connection is not carried out', async () => {
  const bridge = await startBridge()
  const last = `POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: 2000000\r\n\r\n`
  const next = 'POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx'
  const bytes = Buffer.from(last.replace('/publish', '/publish?topic=a') + 'x'.repeat(2_000_000) + next)
  const { answers } = await exchange(bridge.url, bytes, ['POST', 'POST'], { cuts: [300] })
  expect(answers.map(({ status }) => status)).toEqual([413])
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(0)
})

test('a connection on which many requests are refused keeps nothing of them', async () => {
  const bridge = await startBridge(tokenFile([one]).settings)
  const warnings: string[] = []
  const onWarning = ({ name }: Error) => void warnings.push(name)
  process.on('warning', onWarning)
  onTestFinished(() => void process.off('warning', onWarning))
  const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1').setEncoding('latin1')
  onTestFinished(() => void socket.destroy())
  for (let request = 0; request < 50; request += 1) {
    const answered = once(socket, 'data')
    socket.write('POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n')
    expect(String(await answered)).toMatch(/^HTTP\/1.1 401 /)
    socket.write('body')
  }
  expect(warnings).toEqual([])
})
