import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { get, publishRaw, send } from '../../support/http.ts'
import { ask, openSession } from '../../support/http2.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

const from = (site: string, dest: string, more: Record<string, string> = {}) => ({
  'sec-fetch-site': site,
  'sec-fetch-dest': dest,
  ...more,
})

test.each([
  ['an <img>', from('cross-site', 'image')],
  ['an <iframe>', from('cross-site', 'iframe')],
  ['a link', from('cross-site', 'document')],
  ['a page of a sibling host', from('same-site', 'empty')],
])('%s of another site gets nothing but the documentation', async (_name, headers) => {
  const bridge = await startBridge()
  for (const path of [
    '/subscribe?topic=a&session=s',
    '/retained?topic=a',
    '/sessions',
    '/metrics',
    '/livez',
    '/readyz',
  ]) {
    expect([path, (await send(bridge, 'GET', path, headers)).status]).toEqual([path, 403])
  }
  expect((await send(bridge, 'POST', '/publish?topic=a', headers, 'x')).status).toBe(403)
  expect((await send(bridge, 'GET', '/docs', headers)).status).toBe(200)
  expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
})

test('only what can read a stream opens one, even of the own page', async () => {
  const bridge = await startBridge()
  for (const dest of ['image', 'iframe', 'document', 'script', 'video']) {
    const { status } = await send(bridge, 'GET', '/subscribe?topic=a', from('same-origin', dest))
    expect([dest, status]).toEqual([dest, 403])
  }
  expect(await metric(bridge, 'causeway_subscription_filters')).toBe(0)
})

test('no payload is run by a page or a worker', async () => {
  const bridge = await startBridge()
  await publishRaw(bridge, 'topic=a&retain=true', 'alert(1)', { 'content-type': 'text/javascript' })
  const headers = [
    { 'service-worker': 'script' },
    ...['script', 'worker', 'sharedworker', 'serviceworker', 'audioworklet', 'paintworklet', 'xslt'].map((dest) =>
      from('same-origin', dest),
    ),
  ]
  for (const each of headers) {
    expect([each, (await send(bridge, 'GET', '/retained?topic=a', each)).status]).toEqual([each, 403])
  }
  expect((await send(bridge, 'GET', '/retained?topic=a', from('same-origin', 'empty'))).status).toBe(200)
  expect((await send(bridge, 'GET', '/retained?topic=a', from('none', 'document'))).status).toBe(200)
})

test.each(['capacitor://localhost', 'tauri://localhost', 'chrome-extension://abcdefgh', 'https://app.example'])(
  'pages of %s may call where they are named, and read what is left of their quota',
  async (origin) => {
    const bridge = await startBridge({ CORS_ORIGINS: origin, RATE_ADDRESS: 1000 })
    const answer = await get(bridge, '/retained?topic=a/%23', from('cross-site', 'empty', { origin }))
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([200, origin])
    expect(answer.headers.get('access-control-expose-headers')).toMatch(/\bRateLimit\b.*\bRateLimit-Policy\b/)
    expect(answer.headers.get('ratelimit')).toContain('r=')
  },
)

test('the scheme of an origin counts, but a proxy may have ended TLS in front of a named host', async () => {
  const bridge = await startBridge({ AUTH_NONE_PUBLIC: true })
  const { port } = new URL(bridge.url)
  const status = async (origin: string, headers = {}) =>
    (await send(bridge, 'POST', '/publish?topic=a', { origin, ...headers }, 'x')).status
  expect(await status(`http://127.0.0.1:${port}`)).toBe(200)
  expect(await status(`https://127.0.0.1:${port}`)).toBe(403)
  expect(await status('null')).toBe(403)
})

test('over HTTP/2 :authority is what Host is, and the page of an http origin is foreign', async () => {
  const bridge = await startSecureBridge()
  const session = await openSession(bridge.url, bridge.ca)
  const status = async (headers: Record<string, string>) =>
    (await ask(session, 'POST', '/publish?topic=a', headers, 'x')).status
  expect(await status({ ':authority': 'evil.example' })).toBe(403)
  expect(await status({ ':authority': 'localhost' })).toBe(200)
  expect(await status({ ':authority': 'localhost', host: 'evil.example' })).toBe(400)
  expect(await status({ ':authority': 'localhost', origin: 'https://localhost' })).toBe(200)
  expect(await status({ ':authority': 'localhost', origin: 'http://localhost' })).toBe(403)
})
