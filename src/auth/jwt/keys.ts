import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { CausewayError } from '../../errors.ts'

export interface RemoteKeysOptions {
  url: string
  /** Called when the keys cannot be fetched any more, and when they can again. */
  onState(available: boolean, cause?: unknown): void
  /** Age from which they are fetched again. */
  freshMs?: number
  /** Age up to which they are used where they cannot be. */
  staleMs?: number
  /** Least time between fetches for a key that is not among them: anyone can name one. */
  cooldownMs?: number
  /** Wait after the first fetch that failed; it doubles up to a minute. */
  backoffMs?: number
}

const TIMEOUT_MS = 5000
const BACKOFF_MAX_MS = 60_000
const SIZE_MAX = 1_048_576

/** The keys behind a JWKS URL, fetched when they are needed and as seldom as that allows. */
export class RemoteKeys {
  readonly #options: Required<RemoteKeysOptions>
  #find: JWTVerifyGetKey | undefined
  #fetchedAt = 0
  #fetching: Promise<void> | undefined
  #failures = 0
  #notBefore = 0

  constructor({
    freshMs = 600_000,
    staleMs = 3_600_000,
    cooldownMs = 10_000,
    backoffMs = 1000,
    ...options
  }: RemoteKeysOptions) {
    this.#options = { ...options, freshMs, staleMs, cooldownMs, backoffMs }
  }

  /**
   * The key that a token names.
   * @throws JOSEError where there is none, CausewayError `keys-unavailable` where none can be had
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const age = performance.now() - this.#fetchedAt
    const usable = age < this.#options.staleMs ? this.#find : undefined
    if (usable === undefined) return (await this.#refresh())(header, token)
    // Those there are will do for this token.
    if (age >= this.#options.freshMs) this.#refresh().catch(() => {})
    try {
      return await usable(header, token)
    } catch (error) {
      const isFetchedJustNow = this.#failures === 0 && performance.now() < this.#notBefore
      if (!(error instanceof errors.JWKSNoMatchingKey) || isFetchedJustNow) throw error
      return (await this.#refresh())(header, token)
    }
  }

  async #refresh(): Promise<JWTVerifyGetKey> {
    if (performance.now() >= this.#notBefore) {
      this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined))
    }
    await this.#fetching
    if (this.#failures === 0) return this.#find!
    throw new CausewayError('keys-unavailable', 'The keys that tokens are verified with cannot be fetched', {
      retryAfter: Math.max(1, Math.ceil((this.#notBefore - performance.now()) / 1000)),
    })
  }

  /** Never rejects. */
  async #fetch(): Promise<void> {
    const { url, onState, cooldownMs, backoffMs } = this.#options
    try {
      this.#find = createLocalJWKSet(await fetchKeys(url))
      this.#fetchedAt = performance.now()
      this.#notBefore = this.#fetchedAt + cooldownMs
      if (this.#failures > 0) onState(true)
      this.#failures = 0
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
    signal: AbortSignal.timeout(TIMEOUT_MS),
    headers: { accept: 'application/json' },
  })
  if (!response.ok) throw new Error(`it answered ${response.status}`)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > SIZE_MAX) throw new Error(`it is larger than ${SIZE_MAX} bytes`)
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString()) as JSONWebKeySet
}
