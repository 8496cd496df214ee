import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { onTestFinished } from 'vitest'
import type { Settings } from './bridge.ts'

export const ISSUER = 'https://issuer.example'
export const AUDIENCE = 'causeway'

export interface Issuer {
  url: string
  settings: Settings
  /** How often its keys were fetched. */
  requests: number
  /** The HTTP status of its responses from now on; 200 when undefined. */
  failure: number | undefined
  /** Replaces its key with a new one. */
  rotate(): Promise<void>
  /** Signs a token with these claims and defaults that make it valid. */
  sign(claims: JWTPayload, options?: { kid?: string; key?: CryptoKey }): Promise<string>
  /** The current private key. */
  key: CryptoKey
  /** The current public key, as PEM. */
  pem: string
}

/** An issuer of JSON Web Tokens that serves its keys (JWKS) over HTTP. It ends with the test. */
export async function startIssuer(): Promise<Issuer> {
  let kid = 0
  let published: JWK[] = []
  const server = createServer((_request, response) => {
    issuer.requests += 1
    response
      .writeHead(issuer.failure ?? 200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ keys: published }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`
  const issuer: Issuer = {
    url,
    settings: { AUTH: 'jwt', JWT_JWKS_URL: url, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE },
    requests: 0,
    failure: undefined,
    key: undefined as unknown as CryptoKey,
    pem: '',
    async rotate() {
      const { privateKey, publicKey } = await generateKeyPair('ES256')
      kid += 1
      issuer.key = privateKey
      issuer.pem = await exportSPKI(publicKey)
      published = [{ ...(await exportJWK(publicKey)), kid: `key-${kid}`, alg: 'ES256', use: 'sig' }]
    },
    sign: (claims, options = {}) =>
      signed(claims)
        .setProtectedHeader({ alg: 'ES256', kid: options.kid ?? `key-${kid}` })
        .sign(options.key ?? issuer.key),
  }
  await issuer.rotate()
  return issuer
}

/** A token that is valid for a minute unless its claims say otherwise. The caller sets its header and signs it. */
export function signed(claims: JWTPayload): SignJWT {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({
    iss: ISSUER,
    aud: AUDIENCE,
    exp: now + 60,
    sub: 'someone',
    mqtt: { publish: ['#'], subscribe: ['#'] },
    ...claims,
  })
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
