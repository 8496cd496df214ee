import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Admission, Authenticator } from '../authenticator.ts'
import { refused, tokenOf } from '../challenge.ts'
import type { Credentials } from '../credentials.ts'
import type { Identity } from '../identity.ts'
import { ruledBy } from '../rules.ts'
import type { TokenEntry } from './token-file.ts'

interface KnownToken {
  hash: Buffer
  /** The whole entry as JSON, to see whether it has changed. */
  text: string
  identity: Identity
  revoked: AbortController
}

/** Authenticates with the tokens of the token file, of which only the hashes are known. */
export class Tokens implements Authenticator {
  readonly #secret = randomBytes(32)
  /**
   * By a keyed digest of the hash. Callers cannot predict it, so the time of a look-up tells them nothing about tokens.
   */
  #byDigest = new Map<string, KnownToken>()

  constructor(entries: readonly TokenEntry[]) {
    this.replace(entries)
  }

  /** Replaces all tokens. Those that are gone or have changed are revoked; unchanged ones stay valid. */
  replace(entries: readonly TokenEntry[]): void {
    const before = this.#byDigest
    this.#byDigest = new Map()
    for (const entry of entries) {
      const hash = Buffer.from(entry.sha256, 'hex')
      const digest = this.#digestOf(hash)
      const text = JSON.stringify(entry)
      const known = before.get(digest)
      this.#byDigest.set(digest, known?.text === text ? known : toKnown(entry, hash, text))
    }
    for (const [digest, known] of before) if (this.#byDigest.get(digest) !== known) known.revoked.abort()
  }

  authenticate(credentials: Credentials | undefined): Admission {
    const hash = createHash('sha256').update(tokenOf(credentials)).digest()
    const known = this.#byDigest.get(this.#digestOf(hash))
    if (known === undefined || !timingSafeEqual(known.hash, hash)) throw refused('The token is not known')
    return { identity: known.identity }
  }

  #digestOf(hash: Buffer): string {
    return createHmac('sha256', this.#secret).update(hash).digest('base64')
  }
}

function toKnown(entry: TokenEntry, hash: Buffer, text: string): KnownToken {
  const revoked = new AbortController()
  const identity: Identity = {
    name: `token:${entry.name}`,
    ...ruledBy(entry),
    limits: { rate: entry.rate, streams: entry.streams },
    revoked: revoked.signal,
  }
  return { hash, text, identity, revoked }
}
