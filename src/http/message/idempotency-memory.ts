import type { Claim, IdempotencyStore, Outcome, StoredKey } from './idempotency.ts'
import { CausewayError } from '../../errors.ts'

interface Held<Answer> {
  scope: string
  fingerprint: string
  outcome?: Outcome<Answer>
  expiresAt: number
}

export interface MemoryStoreLimits {
  /** Most keys; the oldest answered ones make room. */
  keysMax: number
  /** Most of one caller, whose oldest answered one makes room first. */
  keysMaxOfOne: number
  /** How long an answer is kept. */
  ttlMs: number
}

/** Keys of this process. They are gone with it, and other replicas do not know them. */
export class MemoryStore<Answer> implements IdempotencyStore<Answer> {
  readonly #limits: MemoryStoreLimits
  /** Oldest first. */
  readonly #held = new Map<string, Held<Answer>>()
  /** By caller, in the same order. */
  readonly #ofOne = new Map<string, Set<string>>()

  constructor(limits: MemoryStoreLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#held.size
  }

  async claim(key: StoredKey, fingerprint: string): Promise<Claim<Answer>> {
    this.#expire()
    const held = this.#held.get(nameOf(key))
    if (held !== undefined) {
      if (held.fingerprint !== fingerprint) return { state: 'mismatch' }
      return held.outcome === undefined ? { state: 'running' } : { state: 'done', outcome: held.outcome }
    }
    const own = this.#ofOne.get(key.scope) ?? new Set()
    if (own.size >= this.#limits.keysMaxOfOne) {
      this.#makeRoom(own, 'of this caller are running, which is all CAUSEWAY_IDEMPOTENCY_KEYS_MAX_IDENTITY allows')
    } else if (this.#held.size >= this.#limits.keysMax) {
      this.#makeRoom(this.#held.keys(), 'are running, which is all CAUSEWAY_IDEMPOTENCY_KEYS_MAX allows')
    }
    this.#add(nameOf(key), { scope: key.scope, fingerprint, expiresAt: Infinity })
    return { state: 'new' }
  }

  async keep(key: StoredKey, outcome: Outcome<Answer>): Promise<void> {
    const name = nameOf(key)
    const held = this.#held.get(name)
    if (held === undefined) return
    // Set anew, so that the order is the one in which they expire.
    this.#delete(name)
    this.#add(name, { ...held, outcome, expiresAt: performance.now() + this.#limits.ttlMs })
  }

  async free(key: StoredKey): Promise<void> {
    this.#delete(nameOf(key))
  }

  #add(name: string, held: Held<Answer>): void {
    this.#held.set(name, held)
    const own = this.#ofOne.get(held.scope)
    if (own === undefined) this.#ofOne.set(held.scope, new Set([name]))
    else own.add(name)
  }

  #delete(name: string): void {
    const held = this.#held.get(name)
    if (held === undefined) return
    this.#held.delete(name)
    const own = this.#ofOne.get(held.scope)!
    own.delete(name)
    if (own.size === 0) this.#ofOne.delete(held.scope)
  }

  #expire(): void {
    const now = performance.now()
    for (const [name, { expiresAt }] of this.#held) {
      if (expiresAt === Infinity) continue
      if (expiresAt > now) return
      this.#delete(name)
    }
  }

  #makeRoom(names: Iterable<string>, allRunning: string): void {
    let running = 0
    for (const name of names) {
      if (this.#held.get(name)!.outcome !== undefined) return this.#delete(name)
      running += 1
    }
    throw new CausewayError('overloaded', `${running} requests with an Idempotency-Key ${allRunning}`, {
      outcome: 'not-sent',
      retryAfter: 1,
    })
  }
}

function nameOf({ scope, key }: StoredKey): string {
  return JSON.stringify([scope, key])
}
