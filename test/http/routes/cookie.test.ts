import { once } from 'node:events'
import { type IncomingMessage, request as open } from 'node:http'
import { describe, expect, test } from 'vitest'
import { type Bridge, type Settings, startBridge } from '../../support/bridge.ts'
import { publish, send } from '../../support/http.ts'
import { AUDIENCE, bearer, ISSUER, signed } from '../../support/issuer.ts'
import { openStream } from '../../support/stream.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

async function start(settings: Settings = {}) {
  const one = makeToken('one', ['#'])
  const file = tokenFile([one])
  const bridge = await startBridge({ ...file.settings, AUTH_COOKIE: true, ...settings })
  const site = { origin: bridge.url }
  const { status, headers } = await send(bridge, 'POST', '/cookie', { ...one.headers, ...site })
  expect(status).toBe(204)
  const setCookie = headers.get('set-cookie')!
  return { bridge, one, file, site, setCookie, cookie: { cookie: setCookie.split(';')[0]! } }
}

/** Sends a request to the bridge with the given Host, as a browser does that reaches it under that name. */
async function sendTo(
  bridge: Bridge,
  host: string,
  method: string,
  path: string,
  headers: Record<string, string>,
): Promise<IncomingMessage> {
  const [response] = (await once(
    open(bridge.url + path, { method, headers: { ...headers, host } }).end(),
    'response',
  )) as [IncomingMessage]
  response.resume()
  return response
}

describe('a cookie', () => {
  test('holds the credentials of the request, for this site alone and out of reach of scripts', async () => {
    const { setCookie } = await start()
    expect(setCookie).toMatch(/^causeway=[\w-]+; Path=\/; HttpOnly; SameSite=Strict$/)
  })

  test('off loopback is for https and for this very host alone', async () => {
    const { bridge, one } = await start()
    const { headers } = await sendTo(bridge, 'bridge.example', 'POST', '/cookie', {
      ...one.headers,
      origin: 'https://bridge.example',
    })
    expect(headers['set-cookie']).toEqual([
      expect.stringMatching(/^__Host-causeway=[\w-]+; Path=\/; HttpOnly; SameSite=Strict; Secure$/),
    ])
    const cookie = headers['set-cookie']![0]!.split(';')[0]!
    expect((await sendTo(bridge, 'bridge.example', 'GET', '/retained?topic=a%2Fb', { cookie })).statusCode).toBe(404)
    expect(
      (await sendTo(bridge, 'bridge.example', 'GET', '/retained?topic=a', { cookie: cookie.replace('__Host-', '') }))
        .statusCode,
    ).toBe(401)
  })

  test('lets streams and publishes in, beside others', async () => {
    const { bridge, cookie, site } = await start()
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`, { cookie: `other=1; ${cookie.cookie}; more=2` })
    expect((await publish(bridge, { topic: 'a', payload: 'x' }, { ...cookie, ...site })).status).toBe(200)
    expect((await stream.next()).data).toMatchObject({ payload: 'x' })
  })

  test('is ended by DELETE, and by credentials that are good for nothing any more', async () => {
    const { bridge, cookie, site, file } = await start()
    const over = 'causeway=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0'
    const { status, headers } = await send(bridge, 'DELETE', '/cookie', { ...cookie, ...site })
    expect([status, headers.get('set-cookie')]).toEqual([204, over])
    file.write([])
    bridge.reload()
    const refused = await send(bridge, 'GET', '/retained?topic=a', cookie)
    expect([refused.status, refused.headers.get('set-cookie')]).toEqual([401, over])
  })

  test('ends with its token, which must not be longer than browsers keep one', async () => {
    const secret = 'a secret of thirty-two characters at least'
    const bridge = await startBridge({
      AUTH: 'jwt',
      JWT_SECRET: secret,
      JWT_ISSUER: ISSUER,
      JWT_AUDIENCE: AUDIENCE,
      AUTH_COOKIE: true,
    })
    const sign = (claims: object) =>
      signed({ ...claims })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(new TextEncoder().encode(secret))
    const { headers } = await send(bridge, 'POST', '/cookie', bearer(await sign({})))
    expect(headers.get('set-cookie')).toMatch(/; Max-Age=(5\d|60)$/)
    const tooLong = await send(bridge, 'POST', '/cookie', bearer(await sign({ padding: 'x'.repeat(3000) })))
    expect(tooLong.body).toMatchObject({ status: 400, detail: 'The credentials are too long for a cookie' })
  })

  test('is made of credentials in the header only', async () => {
    const { bridge, cookie, site } = await start()
    expect((await send(bridge, 'POST', '/cookie', { ...cookie, ...site })).body).toMatchObject({
      status: 400,
      code: 'invalid-request',
    })
  })

  test.each(['causeway=', 'causeway=%%%', 'causeway=QmVhcmVyIHg', 'causewayx=1', '=', ';;'])(
    '%j lets nobody in',
    async (cookie) => {
      const { bridge } = await start()
      expect((await send(bridge, 'GET', '/retained?topic=a', { cookie })).status).toBe(401)
    },
  )

  test('is none where it is not switched on', async () => {
    const { bridge, one, cookie, site } = await start({ AUTH_COOKIE: true })
    const other = await startBridge(tokenFile([one]).settings)
    expect((await send(other, 'GET', '/retained?topic=a', cookie)).status).toBe(401)
    expect((await send(other, 'POST', '/cookie', one.headers)).status).toBe(404)
    expect((await publish(bridge, { topic: 'a' }, { ...cookie, ...site })).status).toBe(200)
  })
})

describe('a request with a cookie', () => {
  test('that changes something has to say that it comes from here', async () => {
    const { bridge, cookie, site } = await start()
    const from = async (headers: Record<string, string>) =>
      (await publish(bridge, { topic: 'a' }, { ...cookie, ...headers })).status
    expect(await from(site)).toBe(200)
    expect(await from({ origin: 'http://other.example', 'sec-fetch-site': 'same-origin' })).toBe(200)
    for (const headers of [
      {},
      { origin: 'http://other.example' },
      { origin: 'null' },
      { origin: `${site.origin}.example` },
      { origin: site.origin.replace(/:\d+$/, ':1') },
      { origin: 'http://other.example', 'sec-fetch-site': 'cross-site' },
    ]) {
      expect([headers, await from(headers as Record<string, string>)]).toEqual([headers, 403])
    }
  })

  test('of a page of an origin that is named may come', async () => {
    const { bridge, cookie } = await start({ CORS_ORIGINS: 'https://app.example,https://other.example' })
    expect(
      (
        await publish(
          bridge,
          { topic: 'a' },
          { ...cookie, origin: 'https://other.example', 'sec-fetch-site': 'same-site' },
        )
      ).status,
    ).toBe(200)
  })
})
