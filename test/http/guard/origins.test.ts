import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get, publish, publishRaw, send } from '../../support/http.ts'
import { exchange } from '../../support/raw-http.ts'
import { openStream } from '../../support/stream.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

const APP = 'https://app.example'
const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }

describe('a page of an origin nobody named', () => {
  test('can neither read answers nor ask whether it may', async () => {
    const bridge = await startBridge()
    const answer = await send(bridge, 'OPTIONS', '/publish', { origin: APP, ...preflight })
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([403, null])
    expect((await get(bridge, '/retained?topic=a')).headers.get('access-control-allow-origin')).toBeNull()
  })

  test('cannot publish by a form, as it could without asking, though there is no authentication', async () => {
    const bridge = await startBridge()
    const { status, body } = await publishRaw(bridge, 'topic=a', 'x', { origin: APP, 'content-type': 'text/plain' })
    expect([status, body.code]).toEqual([403, 'forbidden'])
    expect(
      (await publishRaw(bridge, 'topic=a', 'x', { origin: bridge.url, 'content-type': 'text/plain' })).status,
    ).toBe(200)
    expect((await publishRaw(bridge, 'topic=a', 'x')).status).toBe(200)
  })
})

/*
 * DNS rebinding: once the page of http://evil.example is loaded, its owner makes the name point to 127.0.0.1. To the
 * browser the bridge then has the page's own origin. Without authentication the page could read and publish everything.
 */
describe('without authentication, a name that a page may have pointed here', () => {
  async function statusFor(bridge: Bridge, host: string, path = '/publish?topic=a', headers = ''): Promise<number> {
    const { answers } = await exchange(
      bridge.url,
      Buffer.from(`POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n${headers}\r\n`),
      ['POST'],
    )
    return answers[0]!.status
  }

  test('is served nothing', async () => {
    const bridge = await startBridge()
    for (const host of [
      'evil.example',
      'evil.example:8080',
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      'evil-localhost',
      '1.2.3.4.5',
      'a',
    ]) {
      expect(await statusFor(bridge, host, '/publish?topic=a', `Origin: http://${host}\r\n`), host).toBe(403)
    }
    for (const host of [
      'localhost',
      'LOCALHOST:8080',
      'bridge.localhost',
      '127.0.0.1',
      '127.0.0.1:1',
      '[::1]',
      '[::1]:8080',
      '192.168.1.2:80',
    ]) {
      expect(await statusFor(bridge, host), host).toBe(200)
    }
  })

  test('is served where it is named, or where everyone is served on purpose', async () => {
    const named = await startBridge({ CORS_ORIGINS: 'https://bridge.example:8443' })
    expect([await statusFor(named, 'bridge.example'), await statusFor(named, 'evil.example')]).toEqual([200, 403])
    expect(await statusFor(await startBridge({ AUTH_NONE_PUBLIC: true }), 'bridge.example')).toBe(200)
  })

  test('is no matter where there are credentials, which no browser sends along', async () => {
    const one = makeToken('one', ['#'])
    const bridge = await startBridge(tokenFile([one]).settings)
    expect(
      await statusFor(bridge, 'bridge.example', '/publish?topic=a', `Authorization: ${one.headers.authorization}\r\n`),
    ).toBe(200)
  })
})

describe('a page of an origin that is named', () => {
  test('may call, with credentials, and read the answers', async () => {
    const one = makeToken('one', ['#'])
    const bridge = await startBridge({ ...tokenFile([one]).settings, CORS_ORIGINS: `${APP},https://other.example` })
    const asked = await send(bridge, 'OPTIONS', '/publish', { origin: APP, ...preflight })
    expect(asked.status).toBe(204)
    expect(
      Object.fromEntries(
        ['origin', 'credentials', 'methods', 'headers'].map((name) => [
          name,
          asked.headers.get(`access-control-allow-${name}`),
        ]),
      ),
    ).toEqual({ origin: APP, credentials: 'true', methods: 'GET, POST, DELETE', headers: 'authorization' })

    const answer = await publish(bridge, { topic: 'a' }, { ...one.headers, origin: APP })
    expect([answer.status, answer.headers.get('access-control-allow-origin'), answer.headers.get('vary')]).toEqual([
      200,
      APP,
      expect.stringMatching(/origin/i),
    ])
    expect(answer.headers.get('access-control-expose-headers')).toContain('Retry-After')
    const refused = await publish(bridge, { topic: 'a' }, { origin: APP })
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, APP])
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`, {
      ...one.headers,
      origin: 'https://other.example',
    })
    expect([stream.status, stream.headers['access-control-allow-origin']]).toEqual([200, 'https://other.example'])
  })

  test('is not one that only begins like it', async () => {
    const bridge = await startBridge({ CORS_ORIGINS: APP })
    for (const origin of [`${APP}.evil.example`, `${APP}:8443`, 'http://app.example', 'null']) {
      const { status, headers } = await get(bridge, '/retained?topic=a', { origin })
      expect([origin, status, headers.get('access-control-allow-origin')]).toEqual([origin, 403, null])
    }
  })
})

test('answers are nothing a browser would run, frame or guess the type of', async () => {
  const bridge = await startBridge()
  const expected = {
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cross-origin-resource-policy': 'same-origin',
  }
  for (const path of ['/retained?topic=%23', '/livez', '/metrics', '/none', '/subscribe']) {
    expect([path, Object.fromEntries((await get(bridge, path)).headers)]).toMatchObject([path, expected])
  }
  expect((await openStream(`${bridge.url}/subscribe?topic=a`)).headers).toMatchObject(expected)
})

test('the page at /docs may load what it is made of', async () => {
  const bridge = await startBridge()
  const page = await get(bridge, '/docs')
  expect(page.headers.get('content-security-policy')).toContain("script-src 'self'")
  expect(page.headers.get('x-frame-options')).toBe('DENY')
})
