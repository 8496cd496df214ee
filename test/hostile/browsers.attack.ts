import { expect, test } from 'vitest'
import { createCrew, type Crew } from './support/caller.ts'
import { flood } from './support/flood.ts'
import { startTarget, type Target, type TargetOptions, WIRES } from './support/target.ts'

/** A bridge and clients of it, without the polite one: these attacks take messages, not time. */
async function start(options: TargetOptions): Promise<Crew & { target: Target }> {
  const target = await startTarget({ auth: 'none', ...options })
  return { ...createCrew(target, AbortSignal.timeout(60_000)), target }
}

const from = (site: string, dest: string, mode: string, more: Record<string, string> = {}) => ({
  'sec-fetch-site': site,
  'sec-fetch-dest': dest,
  'sec-fetch-mode': mode,
  ...more,
})

// What a browser sends for each way a page has to make it fetch an address; none of them carries an `Origin`.
const FOREIGN: [string, Record<string, string>][] = [
  ['<img> of a foreign site', from('cross-site', 'image', 'no-cors')],
  ['<img> of a sibling host', from('same-site', 'image', 'no-cors')],
  ['<iframe>', from('cross-site', 'iframe', 'navigate')],
  ['navigation', from('cross-site', 'document', 'navigate', { 'sec-fetch-user': '?1' })],
  ['navigation from a sibling host', from('same-site', 'document', 'navigate')],
  ['<script>', from('cross-site', 'script', 'no-cors')],
  ['<link rel=stylesheet>', from('cross-site', 'style', 'no-cors')],
  ['<video>', from('cross-site', 'video', 'no-cors')],
  ['<object>', from('cross-site', 'object', 'navigate')],
  ['fetch without CORS', from('cross-site', 'empty', 'no-cors')],
  ['prefetch', from('cross-site', 'empty', 'no-cors', { 'sec-purpose': 'prefetch' })],
]
const TAKING = ['/subscribe?topic=a&session=billing', '/subscribe?topic=$share/g/a', '/subscribe?topic=a']
const READING = ['/retained?topic=a', '/sessions', '/metrics', '/livez', '/readyz', '/nowhere']

test.each(WIRES)('item 4: no page of another site reaches anything but the documentation, over %s', async (wire) => {
  const { ask, target } = await start({ wire })
  await flood({ url: target.broker.url, topic: 'a', payload: 'kept', count: 1, retain: true })
  const served: string[] = []
  await Promise.all(
    FOREIGN.flatMap(([name, headers]) =>
      [...TAKING, ...READING].map(async (path) => {
        const { status } = await ask('GET', path, { headers, timeoutMs: 2000 })
        // An address that does not exist has nothing to take.
        if (status !== 403 && !(status === 404 && path === '/nowhere')) served.push(`${name} of ${path}: ${status}`)
      }),
    ),
  )
  expect.soft(served).toEqual([])
  for (const [name, headers] of FOREIGN.filter(([, { 'sec-fetch-dest': dest }]) => dest === 'document')) {
    const { status } = await ask('GET', '/docs', { headers })
    expect.soft(status, `${name} of /docs`).toBeLessThan(400)
  }
})

// The page opens the session; its messages go to an image that shows nothing, and are acknowledged.
test.each(WIRES)('item 4: the messages of a session are not taken by an <img>, over %s', async (wire) => {
  const { ask, open, target } = await start({ wire })
  const path = '/subscribe?topic=a&session=billing'
  const rightful = await open('GET', path)
  rightful.body?.resume()
  rightful.leave()
  await expect.poll(async () => (await ask('GET', '/sessions')).text, { timeout: 10_000 }).not.toContain('billing')
  const image = await open('GET', path, { headers: from('cross-site', 'image', 'no-cors') })
  image.body?.resume()
  await flood({ url: target.broker.url, topic: 'a', payload: 'invoice', count: 3 })
  image.leave()
  const again = await open('GET', path)
  let text = ''
  again.body?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await expect.poll(() => text.match(/invoice/g)?.length, { timeout: 5000 }).toBe(3)
})

// Even of its own page: what cannot read a stream must not open one.
test.each(WIRES)('item 4: /subscribe is for destinations that can read it, over %s', async (wire) => {
  const { open } = await start({ wire })
  const served: string[] = []
  for (const dest of ['image', 'iframe', 'script', 'style', 'video', 'audio', 'font', 'object', 'embed', 'worker']) {
    const { status, leave } = await open('GET', '/subscribe?topic=a', { headers: from('same-origin', dest, 'no-cors') })
    leave()
    if (status !== 403) served.push(`${dest}: ${status}`)
  }
  expect(served).toEqual([])
})

test.each(WIRES)('item 4: own pages, curl and trusted origins are served as before, over %s', async (wire) => {
  const { open } = await start({ wire, settings: { CORS_ORIGINS: 'https://app.example' } })
  const served: [string, Record<string, string>][] = [
    ['curl', {}],
    ['EventSource of the own page', from('same-origin', 'empty', 'cors')],
    ['EventSource of a trusted origin', from('cross-site', 'empty', 'cors', { origin: 'https://app.example' })],
  ]
  for (const [name, headers] of served) {
    for (const path of ['/subscribe?topic=a', '/subscribe?topic=a&session=s']) {
      const { status, leave } = await open('GET', path, { headers })
      leave()
      expect.soft(status, `${name} ${path}`).toBe(200)
    }
  }
})

// Not an image can be told from a script by an address; a page or worker that runs a payload runs what anyone published.
test.each(WIRES)('item 19: no payload is a script or a service worker, over %s', async (wire) => {
  const { ask, target } = await start({ wire })
  await flood({
    url: target.broker.url,
    topic: 'a',
    payload: 'alert(1)',
    properties: { contentType: 'text/javascript' },
    count: 1,
    retain: true,
  })
  const served: string[] = []
  const refused: Record<string, string>[] = [
    { 'service-worker': 'script' },
    ...['script', 'worker', 'sharedworker', 'serviceworker', 'audioworklet', 'paintworklet', 'xslt'].map((dest) =>
      from('same-origin', dest, 'no-cors'),
    ),
  ]
  for (const headers of refused) {
    const { status } = await ask('GET', '/retained?topic=a', { headers })
    if (status !== 403) served.push(`${headers['sec-fetch-dest'] ?? 'Service-Worker'}: ${status}`)
  }
  expect.soft(served).toEqual([])
  expect((await ask('GET', '/retained?topic=a', { headers: from('same-origin', 'empty', 'cors') })).status).toBe(200)
})

// A page of evil.example whose name points at this machine is of the same origin to its browser.
test('item 4: rebinding over HTTP/2, where :authority is what Host is', async () => {
  const { session } = await start({ wire: 'HTTP/2' })
  const one = await session()
  const status = (headers: Record<string, string>) =>
    new Promise<number>((resolve) => {
      const stream = one.request({ ':path': '/retained?topic=a', ...headers })
      stream.on('response', (answer) => resolve(Number(answer[':status'])))
      stream.on('error', () => {})
      stream.on('close', () => resolve(0))
      stream.resume()
    })
  expect.soft(await status({ ':authority': 'evil.example' })).toBe(403)
  expect.soft(await status({ ':authority': 'evil.example:443', host: 'localhost' })).toBeGreaterThanOrEqual(400)
  expect.soft(await status({ ':authority': 'localhost', host: 'evil.example' })).toBeGreaterThanOrEqual(400)
  expect.soft(await status({ ':authority': '127.0.0.1.evil.example' })).toBe(403)
  expect.soft(await status({ ':authority': 'localhost' })).toBe(404)
})

test('item 4: rebinding over HTTP/1.1', async () => {
  const { ask } = await start({})
  for (const host of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example', 'localhost.evil.example']) {
    const { status } = await ask('GET', '/retained?topic=a', { headers: { host } })
    expect.soft(status, host).toBe(403)
  }
})

// `http://HOST` is another origin than `https://HOST`: whoever sits on the network writes its pages.
test.each(WIRES)('item 4: an origin of another scheme or port is foreign, over %s', async (wire) => {
  const { ask, target } = await start({ wire })
  const other = wire === 'HTTP/2' ? 'http' : 'https'
  const headers = { 'content-type': 'text/plain' }
  for (const origin of [
    `${other}://127.0.0.1:${target.port}`,
    `${new URL(target.url).protocol}//127.0.0.1:1`,
    'null',
    'file://',
    `${new URL(target.url).protocol}//localhost:${target.port}`,
  ]) {
    const { status } = await ask('POST', '/publish?topic=a', { headers: { ...headers, origin }, body: 'x' })
    expect.soft(status, origin).toBe(403)
  }
  const own = new URL(target.url).origin
  const { status } = await ask('POST', '/publish?topic=a', { headers: { ...headers, origin: own }, body: 'x' })
  expect(status).toBe(200)
})

// Cookies go with whatever a page of the same site asks for, and the browser asks by itself.
test.each(WIRES)(
  'sibling of 4: with a cookie, a page of another site reaches nothing either, over %s',
  async (wire) => {
    const { ask, target } = await start({ wire, auth: 'token', settings: { AUTH_COOKIE: true } })
    const { headers: made } = await ask('POST', '/cookie', { headers: target.other.headers })
    const cookie = String(made['set-cookie']).split(';')[0]!
    const served: string[] = []
    const browser = createCrew({ ...target, headers: { cookie } }, AbortSignal.timeout(60_000))
    const own = from('same-origin', 'empty', 'cors')
    expect((await browser.ask('GET', '/retained?topic=a', { headers: own })).status).toBe(404)
    for (const [name, headers] of FOREIGN) {
      for (const path of [...TAKING, '/retained?topic=a']) {
        const { status } = await browser.ask('GET', path, { headers, timeoutMs: 2000 })
        if (status !== 403 && status !== 401) served.push(`${name} of ${path}: ${status}`)
      }
    }
    expect(served).toEqual([])
  },
)
