import { once } from 'node:events'
import { connect } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { publishRaw, send } from '../../support/http.ts'
import { ask, openSession } from '../../support/http2.ts'
import { exchange } from '../../support/raw-http.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

const STALL = { STREAM_STALL_MS: 300 }

test('an answer of any size that is not read over HTTP/2 is cut off, and gives back what it held', async () => {
  const bridge = await startSecureBridge({ ...STALL, AUTH_NONE_PUBLIC: true })
  const session = connect(bridge.url, { ca: bridge.ca, settings: { initialWindowSize: 0 } })
  onTestFinished(() => session.destroy())
  session.on('error', () => {})
  await once(session, 'connect')
  const paths = ['/nowhere', '/retained?topic=a', '/openapi.json', '/docs/static/swagger-ui-bundle.js', '/%', '/livez']
  const streams = paths.map((path) => session.request({ ':path': path }).on('error', () => {}))
  await Promise.all(streams.map((stream) => once(stream, 'response')))
  expect(await metric(bridge, 'causeway_held_bytes{purpose="requests"}')).toBeGreaterThan(0)
  for (const stream of streams) stream.resume()
  await Promise.all(streams.map((stream) => stream.closed || once(stream, 'close')))
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="requests"}')).toBe(0)
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="answers"}')).toBe(0)
})

test('large answers that are not read are held, refused where there is no room, and cut off', async () => {
  const bridge = await startBridge({
    STREAM_STALL_MS: 2000,
    MEMORY_BYTES: 20_971_520,
    BODY_LIMIT_BYTES: 4_000_000,
    ADMIN_PORT: 0,
  })
  expect((await publishRaw(bridge, 'topic=large&retain=true', 'x'.repeat(4_000_000))).status).toBe(200)
  const statuses: string[] = []
  for (let index = 0; index < 8; index += 1) {
    const socket = connectTcp({ port: Number(new URL(bridge.url).port), host: '127.0.0.1' })
    onTestFinished(() => void socket.destroy())
    socket.on('error', () => {})
    socket.write('GET /retained?topic=large HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const [first] = (await once(socket, 'data')) as [Buffer]
    socket.pause()
    statuses.push(first.toString('latin1', 9, 12))
  }
  expect(statuses).toContain('200')
  expect(statuses).toContain('503')
  expect(await metric(bridge, 'causeway_held_bytes{purpose="answers"}')).toBeLessThanOrEqual(20_971_520)
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="answers"}'), { timeout: 15_000 }).toBe(0)
  expect((await send(bridge, 'GET', '/retained?topic=large')).body).toHaveLength(4_000_000)
})

test('methods that nobody knows are refused without a line in the log', async () => {
  const bridge = await startSecureBridge()
  const session = await openSession(bridge.url, bridge.ca)
  for (const method of ['FOO', 'PROPFIND', 'X'.repeat(3000)]) {
    const { status, headers } = await ask(session, method, '/publish?topic=a')
    expect([status, headers['allow']]).toEqual([405, 'POST'])
  }
  const plain = await startBridge()
  const { answers } = await exchange(plain.url, Buffer.from('PROPFIND /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n'), [
    'GET',
  ])
  expect(answers[0]!.status).toBe(404)
  for (const { logs } of [bridge, plain]) {
    expect(logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
  }
})

test('a transfer coding besides chunked is a 501', async () => {
  const bridge = await startBridge()
  for (const coding of ['gzip, chunked', 'identity,chunked', 'gzip, Chunked']) {
    const request = `POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: ${coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n`
    const { answers } = await exchange(bridge.url, Buffer.from(request), ['POST', 'POST'])
    expect(answers.map(({ status, headers }) => [status, headers.get('connection')])).toEqual([[501, 'close']])
  }
})

test('TLS 1.2 needs forward secrecy', async () => {
  const bridge = await startSecureBridge()
  const cipher = (ciphers: string) =>
    new Promise<string>((resolve) => {
      const socket = connectTls({
        port: Number(new URL(bridge.url).port),
        host: '127.0.0.1',
        ca: bridge.ca,
        maxVersion: 'TLSv1.2',
        ciphers,
      })
      onTestFinished(() => void socket.destroy())
      socket.once('secureConnect', () => resolve(socket.getCipher().name))
      socket.once('error', ({ message }) => resolve(message))
    })
  expect(await cipher('ECDHE-ECDSA-AES128-GCM-SHA256')).toBe('ECDHE-ECDSA-AES128-GCM-SHA256')
  for (const weak of ['AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA']) expect(await cipher(weak)).toContain('alert')
})

test('one address has a share of the connections', async () => {
  const bridge = await startBridge({ HTTP_CONNECTIONS_MAX_ADDRESS: 2, ADMIN_PORT: 0 })
  const dial = (localAddress: string) => {
    const socket = connectTcp({ port: Number(new URL(bridge.url).port), host: '127.0.0.1', localAddress })
    onTestFinished(() => void socket.destroy())
    return socket.on('error', () => {})
  }
  const own = [dial('127.0.0.2'), dial('127.0.0.2')]
  await Promise.all(own.map((socket) => once(socket, 'connect')))
  const third = dial('127.0.0.2').resume()
  await once(third, 'close')
  const other = dial('127.0.0.3')
  other.write('GET /retained?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n')
  expect(String((await once(other, 'data'))[0])).toMatch(/^HTTP\/1.1 404/)
  expect(await metric(bridge, 'causeway_limited_total{limit="connections-address"}')).toBe(1)
  own[0]!.destroy()
  await expect
    .poll(async () => {
      const again = dial('127.0.0.2')
      again.write('GET /retained?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n')
      const [answer] = await Promise.race([once(again, 'data'), once(again, 'close').then(() => [''])])
      again.destroy()
      return String(answer).slice(9, 12)
    })
    .toBe('404')
})
