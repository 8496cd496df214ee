import type { JWTPayload } from 'jose'
import { expect, test } from 'vitest'
import { Jwt, type JwtOptions } from '../../../src/auth/jwt/jwt.ts'
import { CausewayError } from '../../../src/errors.ts'
import { fromClaim } from '../../../src/auth/jwt/rules-of-claims.ts'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { AUDIENCE, ISSUER, signed } from '../../support/issuer.ts'

const secret = new TextEncoder().encode('a secret of thirty-two characters at least')
const sign = async (claims: JWTPayload) => ({
  scheme: 'bearer' as const,
  token: await signed(claims).setProtectedHeader({ alg: 'HS256' }).sign(secret),
})

function verifier(options: Partial<JwtOptions> = {}, totalBytes = 1_000_000) {
  let verified = 0
  const account = new MemoryAccount({ totalBytes })
  const keys = { current: secret }
  const key = async () => {
    verified += 1
    return keys.current
  }
  return {
    jwt: new Jwt({
      key,
      issuer: ISSUER,
      audience: AUDIENCE,
      algorithms: ['HS256'],
      rulesOf: fromClaim('mqtt'),
      shareOf: (name) => account.shareOf(name),
      ...options,
    }),
    account,
    keys,
    verified: () => verified,
  }
}

test('a token is verified once, however many requests have it', async () => {
  const { jwt, verified } = verifier()
  const credentials = await sign({})
  await Promise.all(Array.from({ length: 50 }, () => jwt.authenticate(credentials)))
  await jwt.authenticate(credentials)
  expect(verified()).toBe(1)
  await jwt.authenticate(await sign({ jti: 'another' }))
  expect(verified()).toBe(2)
})

test('a token that was verified is not let in once it has expired', async () => {
  const { jwt } = verifier()
  const credentials = await sign({ exp: Math.floor(Date.now() / 1000) + 2 })
  await jwt.authenticate(credentials)
  await expect
    .poll(() =>
      jwt.authenticate(credentials).then(
        () => 'let in',
        (error) => error.kind.code,
      ),
    )
    .toBe('unauthorized')
})

test('a token that failed is verified again', async () => {
  const { jwt, verified } = verifier()
  const early = await sign({ nbf: Math.floor(Date.now() / 1000) + 2 })
  await expect(jwt.authenticate(early)).rejects.toMatchObject({ kind: { code: 'unauthorized' } })
  await expect
    .poll(() =>
      jwt.authenticate(early).then(
        () => 'let in',
        () => 'refused',
      ),
    )
    .toBe('let in')
  expect(verified()).toBeGreaterThan(1)
})

const OTHER_SECRET = new TextEncoder().encode('another secret of more than thirty-two characters')

test('once the keys have changed, a token of the old key is refused and its streams are told', async () => {
  const { jwt, keys } = verifier()
  const credentials = await sign({})
  const { identity } = await jwt.authenticate(credentials)
  keys.current = OTHER_SECRET
  await jwt.verifyAll()
  expect(identity.revoked?.aborted).toBe(true)
  await expect(jwt.authenticate(credentials)).rejects.toMatchObject({ kind: { code: 'unauthorized' } })
})

test('a token that is still valid after the keys have changed keeps its identity', async () => {
  const { jwt } = verifier()
  const credentials = await sign({})
  const { identity } = await jwt.authenticate(credentials)
  await jwt.verifyAll()
  expect(identity.revoked?.aborted).toBe(false)
  expect((await jwt.authenticate(credentials)).identity).toBe(identity)
})

test('a request that comes while tokens are verified again waits for its own', async () => {
  const { jwt, keys } = verifier()
  const credentials = await sign({})
  await jwt.authenticate(credentials)
  keys.current = OTHER_SECRET
  const all = jwt.verifyAll()
  await expect(jwt.authenticate(credentials)).rejects.toMatchObject({ kind: { code: 'unauthorized' } })
  await all
})

test('keys that cannot be fetched refuse a token for now, but do not revoke it', async () => {
  const { jwt, keys } = verifier()
  const credentials = await sign({})
  const { identity } = await jwt.authenticate(credentials)
  keys.current = Promise.reject(new CausewayError('keys-unavailable', 'no keys')) as never
  await jwt.verifyAll()
  expect(identity.revoked?.aborted).toBe(false)
})

test('a token is verified again after the longest time for which it is trusted', async () => {
  const { jwt, verified } = verifier({ trustMs: 1 })
  const credentials = await sign({})
  await jwt.authenticate(credentials)
  await expect
    .poll(async () => {
      await jwt.authenticate(credentials)
      return verified()
    })
    .toBeGreaterThan(2)
})

test('remembered tokens are paid for by their identity, and not remembered where it has no memory left', async () => {
  const { jwt, account, verified } = verifier({}, 20_000)
  const one = await sign({ sub: 'a' })
  await jwt.authenticate(one)
  expect(account.byPurpose.credentials).toBeGreaterThan(one.token.length)
  account.shareOf('sub:greedy').takeAnyway('logs', 20_000)
  const other = await sign({ sub: 'greedy' })
  for (let request = 0; request < 3; request += 1) await jwt.authenticate(other)
  expect(verified()).toBe(4)
  await jwt.verifyAll()
  expect(account.heldBytes).toBeGreaterThan(20_000)
})
