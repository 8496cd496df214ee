import type { Claim, IdempotencyStore, Outcome } from './idempotency.ts'
import { CausewayError } from '../errors.ts'

interface Held<Answer> {
  fingerprint: string
  outcome?: Outcome<Answer>
  expiresAt: number
}

export interface MemoryStoreLimits {
  /** Most keys; the oldest answered ones make room. */
  keysMax: number
  /** How long an answer is kept. */
  ttlMs: number
}

/** Keys of this process. They are gone with it, and other replicas do not know them. */
export class MemoryStore<Answer> implements IdempotencyStore<Answer> {
  readonly #limits: MemoryStoreLimits
  /** Oldest first. */
  readonly #held = new Map<string, Held<Answer>>()

  constructor(limits: MemoryStoreLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#held.size
  }

  async claim(key: string, fingerprint: string): Promise<Claim<Answer>> {
    this.#expire()
    const held = this.#held.get(key)
    if (held !== undefined) {
      if (held.fingerprint !== fingerprint) return { state: 'mismatch' }
      return held.outcome === undefined ? { state: 'running' } : { state: 'done', outcome: held.outcome }
    }
    this.#makeRoom()
    this.#held.set(key, { fingerprint, expiresAt: Infinity })
    return { state: 'new' }
  }

  async keep(key: string, outcome: Outcome<Answer>): Promise<void> {
    const held = this.#held.get(key)
    if (held === undefined) return
    // Set anew, so that the order is the one in which they expire.
    this.#held.delete(key)
    this.#held.set(key, { fingerprint: held.fingerprint, outcome, expiresAt: performance.now() + this.#limits.ttlMs })
  }

  async free(key: string): Promise<void> {
    this.#held.delete(key)
  }

  #expire(): void {
    const now = performance.now()
    for (const [key, { expiresAt }] of this.#held) {
      if (expiresAt === Infinity) continue
      if (expiresAt > now) return
      this.#held.delete(key)
    }
  }

  #makeRoom(): void {
    if (this.#held.size < this.#limits.keysMax) return
    for (const [key, { outcome }] of this.#held) {
      if (outcome === undefined) continue
      this.#held.delete(key)
      return
    }
    throw new CausewayError('overloaded', `${this.#held.size} requests with an Idempotency-Key are running, which is all CAUSEWAY_IDEMPOTENCY_KEYS_MAX allows`, { outcome: 'not-sent', retryAfter: 1 })
  }
}
