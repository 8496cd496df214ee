import { once } from 'node:events'
import { copyFileSync, writeFileSync } from 'node:fs'
import { Agent, get as httpGet, request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { hasOpenssl } from '../../support/certificates.ts'
import { ask, follow, openSession } from '../../support/http2.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { type SecureBridge, startSecureBridge } from '../../support/secure-bridge.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

async function handshake({ url, ca }: SecureBridge, options: object = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), ca, ...options })
  onTestFinished(() => void socket.destroy())
  await once(socket, 'secureConnect')
  return socket
}

const nameOf = (socket: TLSSocket) => socket.getPeerCertificate().subject.CN

/** Sends over HTTP/1.1 on a keep-alive connection. */
async function post(
  bridge: SecureBridge,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; cookie: string | undefined }> {
  const agent = new Agent({ keepAlive: true, ca: bridge.ca })
  onTestFinished(() => agent.destroy())
  const call = request(bridge.url + path, { method: 'POST', agent, headers }).end(
    path.includes('topic') ? 'x' : undefined,
  )
  const [response] = await once(call, 'response')
  response.resume()
  await once(response, 'end')
  return { status: response.statusCode, cookie: response.headers['set-cookie']?.[0] }
}

describe.skipIf(!hasOpenssl)('with a certificate', () => {
  test('HTTP/1.1 is spoken too, and streams as over plain HTTP', async () => {
    const bridge = await startSecureBridge()
    expect(bridge.url).toMatch(/^https:/)
    expect(bridge.adminUrl).toMatch(/^http:/)
    const call = httpGet(`${bridge.url}/subscribe?topic=a`, { ca: bridge.ca, agent: false })
    onTestFinished(() => void call.destroy())
    const [stream] = await once(call, 'response')
    expect([stream.statusCode, stream.httpVersion]).toEqual([200, '1.1'])
    expect((await post(bridge, '/publish?topic=a')).status).toBe(200)
    let text = ''
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    await expect.poll(() => text).toContain('"payload":"x"')
    call.destroy()
    await expectStreams(bridge, 0)
  })

  test('without an admin port health and metrics are served over TLS as all else is', async () => {
    const { authority, files } = await startSecureBridge()
    const bridge = await startBridge({ HTTP_CERT_FILE: files.cert, HTTP_KEY_FILE: files.key })
    expect(bridge.adminUrl).toBe(bridge.url)
    const session = await openSession(bridge.url, authority.ca)
    expect(await ask(session, 'GET', '/readyz')).toMatchObject({ status: 200, body: { status: 'ok' } })
  })

  test('TLS below 1.2, and what is no TLS, gets no connection and harms nobody', async () => {
    const bridge = await startSecureBridge()
    await expect(
      handshake(bridge, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    ).rejects.toThrow(/ALERT_PROTOCOL_VERSION|alert protocol version/i)
    const plain = connectTcp(Number(new URL(bridge.url).port), '127.0.0.1').on('error', () => {})
    plain.end('GET /livez HTTP/1.1\r\nHost: a\r\n\r\n')
    await once(plain.resume(), 'close')
    expect((await handshake(bridge, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })).getProtocol()).toBe('TLSv1.2')
  })

  test('a cookie is for TLS alone, on loopback too', async () => {
    const token = makeToken('one', ['#'])
    const bridge = await startSecureBridge({ ...tokenFile([token]).settings, AUTH_COOKIE: true })
    expect(await post(bridge, '/cookie', token.headers)).toMatchObject({
      status: 204,
      cookie: expect.stringMatching(/^causeway=\S+; Path=\/; HttpOnly; SameSite=Strict; Secure/),
    })
    const session = await openSession(bridge.url, bridge.ca)
    expect((await ask(session, 'POST', '/cookie', token.headers)).headers['set-cookie']).toEqual([
      expect.stringMatching('; Secure'),
    ])
  })

  test('a reload takes the new certificate for new connections, and open streams notice nothing', async () => {
    const bridge = await startSecureBridge()
    const session = await openSession(bridge.url, bridge.ca)
    const stream = await follow(session, 'topic=a')
    expect(nameOf(await handshake(bridge))).toBe('bridge')

    const next = bridge.authority.issue('next')
    copyFileSync(next.cert, bridge.files.cert)
    copyFileSync(next.key, bridge.files.key)
    bridge.reload()
    expect(nameOf(await handshake(bridge))).toBe('next')
    await ask(await openSession(bridge.url, bridge.ca), 'POST', '/publish?topic=a', {}, 'x')
    expect((await stream.take(1))[0]!.data.payload).toBe('x')
    // One when it started, one for the reload.
    const read = bridge.logs.filter(({ msg }) => String(msg).startsWith(`certificate read from ${bridge.files.cert}; `))
    expect(read).toHaveLength(2)
  })

  test('a reload of files that cannot be used keeps the certificate and says which and why', async () => {
    const bridge = await startSecureBridge()
    const { cert, key } = bridge.files
    const errors = () => bridge.logs.filter(({ level }) => level === 50).map(({ msg }) => msg)
    const stays = 'certificate not reloaded, the current one stays in use: '
    copyFileSync(bridge.authority.issue('other').key, key)
    bridge.reload()
    expect(errors()).toEqual([
      `${stays}CAUSEWAY_HTTP_KEY_FILE ${key}: expected the key of the certificate, got a different one`,
    ])
    writeFileSync(key, 'half a k')
    bridge.reload()
    expect(errors()[1]).toBe(
      `${stays}CAUSEWAY_HTTP_KEY_FILE ${key}: expected a private key in PEM, without a passphrase, got none`,
    )
    writeFileSync(cert, '')
    bridge.reload()
    expect(errors()[2]).toBe(`${stays}CAUSEWAY_HTTP_CERT_FILE ${cert}: expected a certificate in PEM, got none`)
    expect(nameOf(await handshake(bridge))).toBe('bridge')
  })

  test('it closes while connections of every kind are open, idle and mid-stream', async () => {
    // Much longer than the test may take.
    const bridge = await startSecureBridge({ SHUTDOWN_MS: 600_000 })
    const [idle, busy] = [await openSession(bridge.url, bridge.ca), await openSession(bridge.url, bridge.ca)]
    const stream = await follow(busy, 'topic=a')
    await post(bridge, '/publish?topic=a')
    await handshake(bridge, { ALPNProtocols: ['h2'] })
    const silent = connectTcp(Number(new URL(bridge.url).port), '127.0.0.1').on('error', () => {})
    await once(silent, 'connect')
    const gone = once(idle, 'close')
    await bridge.close()
    await Promise.all([gone, stream.ended])
    expect((await stream.take(1))[0]!.data.payload).toBe('x')
  })

  test('a head over HTTP/1.1 that does not arrive in time gets 408', async () => {
    const bridge = await startSecureBridge({ HEADERS_TIMEOUT_MS: 200 })
    const socket = await handshake(bridge, { ALPNProtocols: ['http/1.1'] })
    socket.write('POST /publish?topic=a HTTP/1.1\r\nhost: localhost\r\n')
    const [answer] = await once(socket, 'data')
    expect(String(answer)).toMatch(/^HTTP\/1.1 408 [^]*"code":"request-timeout"/)
    await once(socket, 'close')
  })
})
