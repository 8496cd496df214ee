import type { JWTPayload } from 'jose'
import { expect, test } from 'vitest'
import { Jwt } from '../../../src/auth/jwt/jwt.ts'
import { fromClaim } from '../../../src/auth/jwt/rules-of-claims.ts'
import { AUDIENCE, ISSUER, signed } from '../../support/issuer.ts'

const secret = new TextEncoder().encode('a secret of thirty-two characters at least')
const sign = async (claims: JWTPayload) => ({
  scheme: 'bearer' as const,
  token: await signed(claims).setProtectedHeader({ alg: 'HS256' }).sign(secret),
})

function verifier() {
  let verified = 0
  const key = async () => {
    verified += 1
    return secret
  }
  return {
    jwt: new Jwt({ key, issuer: ISSUER, audience: AUDIENCE, algorithms: ['HS256'], rulesOf: fromClaim('mqtt') }),
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
