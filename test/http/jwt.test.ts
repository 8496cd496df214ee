import type { JWTPayload } from 'jose'
import { describe, expect, onTestFinished, test } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { get, publish, publishRaw } from '../support/http.ts'
import { AUDIENCE, bearer, ISSUER, signed, startIssuer } from '../support/issuer.ts'
import { openStream } from '../support/stream.ts'

const SECRET = 'a secret of thirty-two characters at least'
const key = new TextEncoder().encode(SECRET)
const withSecret = { AUTH: 'jwt', JWT_SECRET: SECRET, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }
const sign = (claims: JWTPayload = {}) => signed(claims).setProtectedHeader({ alg: 'HS256' }).sign(key)
const now = () => Math.floor(Date.now() / 1000)

describe('a token signed with a key of the issuer', () => {
  test('is let in under the rules of its claim', async () => {
    const issuer = await startIssuer()
    const bridge = await startBridge(issuer.settings)
    const headers = bearer(await issuer.sign({ mqtt: { publish: ['a/+'], subscribe: [] } }))
    expect((await publish(bridge, { topic: 'a/b' }, headers)).status).toBe(200)
    expect((await publish(bridge, { topic: 'b' }, headers)).body).toMatchObject({ status: 403, code: 'forbidden' })
    expect((await get(bridge, '/retained?topic=a/b', headers)).status).toBe(403)
  })

  test('is let in after the issuer has changed its keys, and the old key is not', async () => {
    const issuer = await startIssuer()
    const bridge = await startBridge(issuer.settings)
    const before = { kid: 'key-1', key: issuer.key }
    await issuer.rotate()
    expect((await publish(bridge, { topic: 'a' }, bearer(await issuer.sign({})))).status).toBe(200)
    expect((await publish(bridge, { topic: 'a' }, bearer(await issuer.sign({}, before)))).status).toBe(401)
  })

  test('is remembered, so that it is let in while the issuer is away', async () => {
    const issuer = await startIssuer()
    const bridge = await startBridge(issuer.settings)
    const [one, two] = [bearer(await issuer.sign({})), bearer(await issuer.sign({}, { kid: 'new' }))]
    expect((await publish(bridge, { topic: 'a' }, one)).status).toBe(200)
    issuer.failure = 500
    expect((await publish(bridge, { topic: 'a' }, one)).status).toBe(200)
    expect((await publish(bridge, { topic: 'a' }, two)).status).toBe(401)
    expect(issuer.requests).toBe(1)
  })

  test('is refused, and its stream ended, once SIGHUP has read keys without its own', async () => {
    const issuer = await startIssuer()
    const bridge = await startBridge(issuer.settings)
    const headers = bearer(await issuer.sign({}))
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`, headers)
    await issuer.rotate()
    expect((await publish(bridge, { topic: 'b' }, headers)).status).toBe(200)
    bridge.reload()
    await expect.poll(async () => (await publish(bridge, { topic: 'b' }, headers)).status).toBe(401)
    await expect.poll(() => stream.events.at(-1)?.data).toEqual({ credentials: 'revoked' })
    await stream.ended
    expect((await publish(bridge, { topic: 'a' }, bearer(await issuer.sign({})))).status).toBe(200)
  })

  test('is answered with 503 where the keys cannot be fetched', async () => {
    const issuer = await startIssuer()
    issuer.failure = 500
    const bridge = await startBridge(issuer.settings)
    const { body, headers } = await publish(bridge, { topic: 'a' }, bearer(await issuer.sign({})))
    expect(body).toMatchObject({ status: 503, code: 'keys-unavailable', retryable: true })
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    expect(bridge.logs.filter(({ level }) => level === 40)).toMatchObject([{ reason: 'the server answered 500' }])
  })

  test('is refused if it is signed with the public key as if that were a secret', async () => {
    const issuer = await startIssuer()
    const bridge = await startBridge(issuer.settings)
    const token = await signed({})
      .setProtectedHeader({ alg: 'HS256', kid: 'key-1' })
      .sign(new TextEncoder().encode(issuer.pem))
    expect((await publish(bridge, { topic: 'a' }, bearer(token))).status).toBe(401)
  })
})

describe('a token signed with the secret', () => {
  test('is let in', async () => {
    const bridge = await startBridge(withSecret)
    expect((await publish(bridge, { topic: 'a' }, bearer(await sign()))).status).toBe(200)
    expect((await publish(bridge, { topic: 'a' }, bearer(await sign({ aud: ['other', AUDIENCE] })))).status).toBe(200)
  })

  test.each([
    ['has expired', { exp: now() - 1 }, 'The token has expired'],
    ['never expires', { exp: undefined }, 'The exp claim of the token has a wrong value or is missing'],
    [
      'is of another issuer',
      { iss: 'https://other.example' },
      'The iss claim of the token has a wrong value or is missing',
    ],
    ['is of no issuer', { iss: undefined }, 'The iss claim of the token has a wrong value or is missing'],
    ['is for others', { aud: ['other'] }, 'The aud claim of the token has a wrong value or is missing'],
    ['is for nobody', { aud: undefined }, 'The aud claim of the token has a wrong value or is missing'],
    ['is not valid yet', { nbf: now() + 60 }, 'The nbf claim of the token has a wrong value or is missing'],
    [
      'has rules that are none',
      { mqtt: { publish: '#' } },
      'The claim with the topic rules is not {publish, subscribe} with arrays of filters',
    ],
  ])('that %s is refused', async (_what, claims, detail) => {
    const bridge = await startBridge(withSecret)
    const { status, body, headers } = await publish(bridge, { topic: 'a' }, bearer(await sign(claims as JWTPayload)))
    expect([status, body.detail]).toEqual([401, detail])
    expect(headers.get('www-authenticate')).toBe(
      `Bearer realm="causeway", error="invalid_token", error_description="${detail}"`,
    )
  })

  test('is refused if it is not signed, signed with another secret or algorithm, or cut', async () => {
    const bridge = await startBridge(withSecret)
    const token = await sign()
    const [, payload] = token.split('.')
    const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`
    const other = await signed({})
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(SECRET.toUpperCase()))
    const longer = await signed({}).setProtectedHeader({ alg: 'HS512' }).sign(key)
    for (const each of [unsigned, other, longer, token.slice(0, -4), token.split('.').slice(0, 2).join('.'), 'x']) {
      expect([each, (await publish(bridge, { topic: 'a' }, bearer(each))).status]).toEqual([each, 401])
    }
  })

  test('gets the rules of the templates, and none where a claim would widen one', async () => {
    const bridge = await startBridge({
      ...withSecret,
      JWT_PUBLISH: 'users/${sub}/#,all',
      JWT_SUBSCRIBE: 'users/${sub}/in',
    })
    const as = async (sub: string) => bearer(await sign({ sub }))
    expect((await publish(bridge, { topic: 'users/ann/x' }, await as('ann'))).status).toBe(200)
    expect((await publish(bridge, { topic: 'users/bob/x' }, await as('ann'))).status).toBe(403)
    expect((await get(bridge, '/retained?topic=users/ann/in', await as('ann'))).status).toBe(404)
    for (const sub of ['+', '#', 'ann/x', 'ann\0']) {
      expect((await publish(bridge, { topic: 'users/ann/x' }, await as(sub))).status).toBe(403)
      expect((await publish(bridge, { topic: 'all' }, await as(sub))).status).toBe(200)
    }
  })

  test('shares its idempotency keys with others of its subject, and with nobody else', async () => {
    const bridge = await startBridge(withSecret)
    const order = async (claims: JWTPayload) => {
      const { headers } = await publishRaw(bridge, 'topic=a', 'x', {
        ...bearer(await sign(claims)),
        'idempotency-key': '"1"',
      })
      return headers.get('idempotency-replayed')
    }
    expect([await order({ sub: 'ann' }), await order({ sub: 'ann', jti: '2' }), await order({ sub: 'bob' })]).toEqual([
      null,
      'true',
      null,
    ])
    expect([await order({ sub: undefined as never }), await order({ sub: undefined as never, jti: '2' })]).toEqual([
      null,
      null,
    ])
  })
})

test('a stream ends when its token expires, with an event that says why', async () => {
  const bridge = await startBridge({ ...withSecret, ADMIN_PORT: 0 })
  const headers = bearer(await sign({ exp: now() + 2 }))
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, headers)
  await publish(bridge, { topic: 'a', payload: 'x' }, bearer(await sign()))
  expect((await stream.next()).data).toMatchObject({ payload: 'x' })
  expect(await stream.next()).toMatchObject({ event: 'status', data: { credentials: 'expired' } })
  await stream.ended
  expect(await metric(bridge, 'causeway_stream_closed_total{reason="expired"}')).toBe(1)
  const again = await openStream(`${bridge.url}/subscribe?topic=a`, headers)
  expect([again.status, again.headers['www-authenticate']]).toEqual([
    401,
    expect.stringContaining('error="invalid_token"'),
  ])
})

test('a token that is good for longer than a timer can wait keeps its stream', async () => {
  const warnings: Error[] = []
  const warned = (warning: Error) => void warnings.push(warning)
  process.on('warning', warned)
  onTestFinished(() => void process.off('warning', warned))
  const bridge = await startBridge(withSecret)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, bearer(await sign({ exp: now() + 60 * 86_400 })))
  await publish(bridge, { topic: 'a', payload: 'x' }, bearer(await sign()))
  expect((await stream.next()).data).toMatchObject({ payload: 'x' })
  expect(warnings).toEqual([])
})
