import { createHash } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from 'jose'
import { LRUCache } from 'lru-cache'
import { CausewayError } from '../../errors.ts'
import type { Admission, Authenticator } from '../authenticator.ts'
import { ended, refused, tokenOf } from '../challenge.ts'
import type { Credentials } from '../credentials.ts'
import type { Identity } from '../identity.ts'
import { ruledBy } from '../rules.ts'
import { ClaimError, type RulesOf } from './rules-of-claims.ts'

export interface JwtOptions {
  key: JWTVerifyGetKey
  issuer: string
  audience: string
  algorithms: string[]
  rulesOf: RulesOf
}

/** Most verified tokens that are remembered. Verifying a signature costs more than all other work for a request. */
const TOKENS_MAX = 10_000

/**
 * Authenticates with JSON Web Tokens (RFC 7519) of one issuer for one audience. Tokens without an expiry are refused.
 */
export class Jwt implements Authenticator {
  readonly #options: JwtOptions
  /** By the SHA-256 of the token. A promise, so that simultaneous requests with a new token verify it once. */
  readonly #verifications = new LRUCache<string, Promise<Identity>>({ max: TOKENS_MAX })

  constructor(options: JwtOptions) {
    this.#options = options
  }

  async authenticate(credentials: Credentials | undefined): Promise<Admission> {
    const token = tokenOf(credentials)
    const hash = createHash('sha256').update(token).digest('base64')
    let verification = this.#verifications.get(hash)
    if (verification === undefined) this.#verifications.set(hash, (verification = this.#verify(token, hash)))
    try {
      const identity = await verification
      if (identity.expiresAt! <= Date.now()) throw ended()
      return { identity }
    } catch (error) {
      if (this.#verifications.peek(hash) === verification) this.#verifications.delete(hash)
      throw error
    }
  }

  async #verify(token: string, hash: string): Promise<Identity> {
    const { key, issuer, audience, algorithms, rulesOf } = this.#options
    try {
      const { payload } = await jwtVerify(token, key, { issuer, audience, algorithms, requiredClaims: ['exp'] })
      return { name: nameOf(payload, hash), ...ruledBy(rulesOf(payload)), expiresAt: payload.exp! * 1000 }
    } catch (error) {
      throw toProblem(error)
    }
  }
}

/** Without a subject, nothing but the token itself identifies the caller. */
function nameOf({ sub }: JWTPayload, hash: string): string {
  return typeof sub === 'string' && sub !== '' ? `sub:${sub}` : `jwt:${hash}`
}

function toProblem(error: unknown): CausewayError {
  if (error instanceof CausewayError) return error
  if (error instanceof ClaimError) {
    return refused('The claim with the topic rules is not {publish, subscribe} with arrays of filters', error)
  }
  if (error instanceof errors.JWTExpired) return refused('The token has expired', error)
  if (error instanceof errors.JWTClaimValidationFailed) {
    return refused(`The ${error.claim} claim of the token has a wrong value or is missing`, error)
  }
  // Not only JOSEError: some keys that do not fit the algorithm cause a TypeError.
  return refused('The token is not valid', error)
}
