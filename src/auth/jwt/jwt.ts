import { createHash } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from 'jose'
import { LRUCache } from 'lru-cache'
import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
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
  /** The share of memory of an identity, by its name: it pays for its remembered tokens. */
  shareOf(name: string): MemoryShare
  /** A token is trusted for so many milliseconds before it is verified again; by default until it expires. */
  trustMs?: number | undefined
  /** Called when a remembered token is accepted: the keys have to be fetched from time to time all the same. */
  onRemembered?(): void
}

/** A token that was verified, or is being verified. */
interface RememberedToken {
  token: string
  /** A promise, so that simultaneous requests with a new token verify it once. */
  identity: Promise<Identity>
  /** Ends the streams that were opened with the token. */
  revoked: AbortController
  /** In milliseconds of `performance.now()`. -Infinity if it has to be verified again before it is used. */
  verifiedAt: number
  /** Gives back the memory that it takes. */
  release(): void
}

/** Most verified tokens that are remembered. Verifying a signature costs more than all other work for a request. */
const TOKENS_MAX = 10_000
/** Roughly what a remembered token takes beside the text of the token and of its claims, in bytes. */
const TOKEN_OVERHEAD = 1024

/**
 * Authenticates with JSON Web Tokens (RFC 7519) of one issuer for one audience. Tokens without an expiry are refused.
 */
export class Jwt implements Authenticator {
  readonly #options: JwtOptions
  /** By the SHA-256 of the token. */
  readonly #remembered = new LRUCache<string, RememberedToken>({
    max: TOKENS_MAX,
    dispose: (remembered) => remembered.release(),
  })

  constructor(options: JwtOptions) {
    this.#options = options
  }

  async authenticate(credentials: Credentials | undefined): Promise<Admission> {
    const token = tokenOf(credentials)
    const hash = createHash('sha256').update(token).digest('base64')
    const known = this.#remembered.get(hash)
    const remembered = known ?? this.#remember(token, hash)
    if (known !== undefined) this.#options.onRemembered?.()
    const { trustMs = Infinity } = this.#options
    if (performance.now() - remembered.verifiedAt > trustMs) this.#verifyAgain(remembered, hash)
    const identity = await remembered.identity
    if (identity.expiresAt! <= Date.now()) {
      this.#remembered.delete(hash)
      throw ended()
    }
    return { identity }
  }

  /**
   * Verifies all remembered tokens again: the keys have changed. Those that are not valid any more are revoked, and
   * with them the streams that were opened with them.
   */
  async verifyAll(): Promise<void> {
    const tokens = [...this.#remembered.entries()]
    for (const [, remembered] of tokens) remembered.verifiedAt = -Infinity
    // One after the other: each signature takes about 0.3 ms, and requests wait for none but their own.
    for (const [hash, remembered] of tokens) {
      if (remembered.verifiedAt === -Infinity) this.#verifyAgain(remembered, hash)
      await remembered.identity.catch(() => {})
    }
  }

  #remember(token: string, hash: string): RememberedToken {
    const revoked = new AbortController()
    const remembered: RememberedToken = {
      token,
      identity: this.#verify(token, hash, revoked.signal),
      revoked,
      verifiedAt: performance.now(),
      release: () => {},
    }
    this.#remembered.set(hash, remembered)
    remembered.identity.then(
      ({ name }) => this.#pay(remembered, hash, name),
      () => this.#forget(remembered, hash),
    )
    return remembered
  }

  /** A token whose identity has no memory left for it is not remembered, and verified with each request. */
  #pay(remembered: RememberedToken, hash: string, name: string): void {
    if (this.#remembered.peek(hash) !== remembered) return
    const share = this.#options.shareOf(name)
    // The token's text and its claims, two bytes for each character.
    const bytes = TOKEN_OVERHEAD + 4 * remembered.token.length
    if (share.take('credentials', bytes)) remembered.release = () => share.give('credentials', bytes)
    else this.#remembered.delete(hash)
  }

  /** The identity stays the same object: open streams hold it. */
  #verifyAgain(remembered: RememberedToken, hash: string): void {
    remembered.verifiedAt = performance.now()
    const before = remembered.identity
    remembered.identity = this.#verify(remembered.token, hash, remembered.revoked.signal).then(() => before)
    remembered.identity.catch((error: CausewayError) => {
      this.#forget(remembered, hash)
      // Keys that cannot be fetched say nothing about the token.
      if (error.kind.code === 'unauthorized') remembered.revoked.abort()
    })
  }

  #forget(remembered: RememberedToken, hash: string): void {
    if (this.#remembered.peek(hash) === remembered) this.#remembered.delete(hash)
  }

  async #verify(token: string, hash: string, revoked: AbortSignal): Promise<Identity> {
    const { key, issuer, audience, algorithms, rulesOf } = this.#options
    try {
      const { payload } = await jwtVerify(token, key, { issuer, audience, algorithms, requiredClaims: ['exp'] })
      return { name: nameOf(payload, hash), ...ruledBy(rulesOf(payload)), expiresAt: payload.exp! * 1000, revoked }
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
