import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { CausewayError } from '../../errors.ts'

export interface RemoteKeysOptions {
  url: string
  /** Called when fetching starts to fail, and when it succeeds again. */
  onState(available: boolean, cause?: unknown): void
  /** Called when a fetch brought other keys than the one before: tokens of a key that is gone are no longer valid. */
  onChanged?(): void
  /** Keys that are older are fetched again, while the old ones stay in use. */
  freshMs?: number
  /** Keys that are older are not used any more, even if they cannot be fetched. */
  staleMs?: number
  /**
   * Shortest time between two fetches for an unknown key id. Without it anyone could cause fetches with made-up ids.
   */
  cooldownMs?: number
  /** Wait after a failed fetch. Doubles with each failure, up to a minute. */
  backoffMs?: number
}

const FETCH_TIMEOUT_MS = 5000
const BACKOFF_MAX_MS = 60_000
const KEYS_MAX_BYTES = 1_048_576

/** The keys behind a JWKS URL. They are fetched when a token needs them, and kept in memory. */
export class RemoteKeys {
  readonly #options: Required<RemoteKeysOptions>
  #find: JWTVerifyGetKey | undefined
  /** The key set as JSON text, to see whether it has changed. */
  #text: string | undefined
  #fetchedAt = 0
  #fetching: Promise<void> | undefined
  #failures = 0
  /** Do not fetch before this time of `performance.now()`. */
  #notBefore = 0

  constructor({
    freshMs = 600_000,
    staleMs = 3_600_000,
    cooldownMs = 10_000,
    backoffMs = 1000,
    onChanged = () => {},
    ...options
  }: RemoteKeysOptions) {
    this.#options = { ...options, onChanged, freshMs, staleMs, cooldownMs, backoffMs }
  }

  /**
   * Finds the key that a token names.
   * @throws JOSEError where the key set has no such key, CausewayError `keys-unavailable` where it cannot be fetched
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const age = performance.now() - this.#fetchedAt
    const usable = age < this.#options.staleMs ? this.#find : undefined
    if (usable === undefined) return (await this.#refresh())(header, token)
    // Do not wait: this token can still be verified with the old keys.
    if (age >= this.#options.freshMs) this.#refresh().catch(() => {})
    try {
      return await usable(header, token)
    } catch (error) {
      const isFetchedJustNow = this.#failures === 0 && performance.now() < this.#notBefore
      if (!(error instanceof errors.JWKSNoMatchingKey) || isFetchedJustNow) throw error
      return (await this.#refresh())(header, token)
    }
  }

  /** Fetches old keys again, for tokens that are accepted without `find`. Nobody waits for it. */
  keepFresh(): void {
    if (performance.now() - this.#fetchedAt >= this.#options.freshMs) this.#refresh().catch(() => {})
  }

  /** Fetches the keys now. Where that fails the old ones stay in use, for as long as they are not too old. */
  async reload(): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined))
    await this.#fetching
  }

  async #refresh(): Promise<JWTVerifyGetKey> {
    if (performance.now() >= this.#notBefore) {
      this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined))
    }
    await this.#fetching
    if (this.#failures === 0) return this.#find!
    throw new CausewayError('keys-unavailable', 'The keys to verify tokens with cannot be fetched', {
      retryAfter: Math.max(1, Math.ceil((this.#notBefore - performance.now()) / 1000)),
    })
  }

  /** Fetches the keys. A failure is counted, and never rejects. */
  async #fetch(): Promise<void> {
    const { url, onState, onChanged, cooldownMs, backoffMs } = this.#options
    try {
      const keys = await fetchKeys(url)
      this.#find = createLocalJWKSet(keys)
      const before = this.#text
      this.#text = JSON.stringify(keys)
      this.#fetchedAt = performance.now()
      this.#notBefore = this.#fetchedAt + cooldownMs
      if (this.#failures > 0) onState(true)
      this.#failures = 0
      if (before !== undefined && before !== this.#text) onChanged()
    } catch (cause) {
      this.#failures += 1
      const wait = Math.min(BACKOFF_MAX_MS, backoffMs * 2 ** (this.#failures - 1))
      this.#notBefore = performance.now() + wait * (0.5 + Math.random() / 2)
      if (this.#failures === 1) onState(false, cause)
    }
  }
}

async function fetchKeys(url: string): Promise<JSONWebKeySet> {
  const response = await fetch(url, {
    redirect: 'error',
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
    headers: { accept: 'application/json' },
  })
  if (!response.ok) throw new Error(`the server answered ${response.status}`)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > KEYS_MAX_BYTES) throw new Error(`the key set is larger than ${KEYS_MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString()) as JSONWebKeySet
}
