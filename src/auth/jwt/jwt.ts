import { createHash } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from 'jose'
import { CausewayError } from '../../errors.ts'
import type { Admission, Authenticator } from '../authenticator.ts'
import { ended, refused, tokenOf } from '../challenge.ts'
import type { Credentials } from '../credentials.ts'
import type { Identity } from '../identity.ts'
import { ClaimError, type RulesOf } from './rules-of-claims.ts'
import { ruledBy } from '../rules.ts'

export interface JwtOptions {
  key: JWTVerifyGetKey
  issuer: string
  audience: string
  algorithms: string[]
  rulesOf: RulesOf
}

/** Tokens remembered once they are verified: a signature costs more than all else a request does here. */
const REMEMBERED_MAX = 10_000

/** JSON Web Tokens (RFC 7519) of one issuer, for one audience, with an expiry. */
export class Jwt implements Authenticator {
  readonly #options: JwtOptions
  /** By the token's hash, least recently used first. */
  readonly #remembered = new Map<string, Promise<Identity>>()

  constructor(options: JwtOptions) {
    this.#options = options
  }

  async authenticate(credentials: Credentials | undefined): Promise<Admission> {
    const token = tokenOf(credentials)
    const key = createHash('sha256').update(token).digest('base64')
    const verifying = this.#remembered.get(key) ?? this.#verify(token, key)
    this.#remembered.delete(key)
    this.#remembered.set(key, verifying)
    if (this.#remembered.size > REMEMBERED_MAX) this.#remembered.delete(this.#remembered.keys().next().value!)
    try {
      const identity = await verifying
      if (identity.expiresAt! <= Date.now()) throw ended()
      return { identity }
    } catch (error) {
      if (this.#remembered.get(key) === verifying) this.#remembered.delete(key)
      throw error
    }
  }

  async #verify(token: string, hash: string): Promise<Identity> {
    const { key, issuer, audience, algorithms, rulesOf } = this.#options
    try {
      const { payload } = await jwtVerify(token, key, { issuer, audience, algorithms, requiredClaims: ['exp'] })
      return { name: nameOf(payload, hash), ...ruledBy(rulesOf(payload)), expiresAt: payload.exp! * 1000 }
    } catch (error) {
      throw explained(error)
    }
  }
}

/** Who has no subject has only its token to be told from others by. */
function nameOf({ sub }: JWTPayload, hash: string): string {
  return typeof sub === 'string' && sub !== '' ? `sub:${sub}` : `jwt:${hash}`
}

function explained(error: unknown): CausewayError {
  if (error instanceof CausewayError) return error
  if (error instanceof ClaimError) {
    return refused('The claim with the topic rules is not {publish, subscribe} with arrays of filters', error)
  }
  if (error instanceof errors.JWTExpired) return refused('The token has expired', error)
  if (error instanceof errors.JWTClaimValidationFailed) {
    return refused(`The ${error.claim} claim of the token is not what it has to be`, error)
  }
  // Some keys that do not fit their algorithm are a TypeError.
  return refused('The token is not valid', error)
}
