import { CausewayError } from '../../errors.ts'
import type { Held } from '../../memory/account.ts'
import type { ClaimResult, IdempotencyStore, KeptError, Outcome, StoredKey } from './idempotency.ts'

interface KnownRequest<Answer> {
  caller: string
  fingerprint: string
  held: Held
  /** Undefined while the request runs. */
  outcome?: Outcome<Answer>
  /** Milliseconds of `performance.now()`; Infinity while the request runs. */
  expiresAt: number
}

/** Roughly what a key takes in memory beside its own text and its answer: maps, fingerprint, objects. */
const KEY_BYTES = 512

export interface MemoryStoreLimits {
  /** Most keys. A new key evicts the oldest answered one; those of running requests stay. */
  keysMax: number
  /** Most keys of one caller. A new key then evicts the caller's own oldest answered one. */
  keysMaxPerCaller: number
  /** How long an answer is kept. */
  ttlMs: number
}

/**
 * Keeps keys in this process. They end with it, and other replicas do not know them. No `lru-cache`: a key whose
 * request still runs must never be evicted, and the limit for each caller needs an order of its own.
 */
export class MemoryStore<Answer> implements IdempotencyStore<Answer> {
  readonly #limits: MemoryStoreLimits
  /** Running requests in the order of their start, answered ones in the order of their expiry. */
  readonly #requests = new Map<string, KnownRequest<Answer>>()
  /** The keys of each caller, in the same order. */
  readonly #keysByCaller = new Map<string, Set<string>>()

  constructor(limits: MemoryStoreLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#requests.size
  }

  async claim(key: StoredKey, fingerprint: string): Promise<ClaimResult<Answer>> {
    this.#deleteExpired()
    const known = this.#requests.get(idOf(key))
    if (known !== undefined) {
      if (known.fingerprint !== fingerprint) return { state: 'mismatch' }
      return known.outcome === undefined ? { state: 'running' } : { state: 'done', outcome: known.outcome }
    }
    const own = this.#keysByCaller.get(key.caller) ?? new Set()
    if (own.size >= this.#limits.keysMaxPerCaller) {
      this.#evictAnswered(own, 'of this caller are running; CAUSEWAY_IDEMPOTENCY_KEYS_MAX_IDENTITY allows no more')
    } else if (this.#requests.size >= this.#limits.keysMax) {
      this.#evictAnswered(this.#requests.keys(), 'are running; CAUSEWAY_IDEMPOTENCY_KEYS_MAX allows no more')
    }
    const id = idOf(key)
    const held = key.share.hold('idempotency')
    if (!this.#grow(key.caller, held, KEY_BYTES + 2 * id.length)) throw memoryIsShort()
    this.#add(id, { caller: key.caller, fingerprint, held, expiresAt: Infinity })
    return { state: 'new' }
  }

  async keep(key: StoredKey, kept: Outcome<Answer>, bytes: number): Promise<void> {
    const id = idOf(key)
    const known = this.#requests.get(id)
    if (known === undefined) return
    const outcome = this.#grow(known.caller, known.held, bytes) ? kept : { error: answerNotKept() }
    // Delete and add, so that the key moves to the end, where the latest expiry belongs.
    this.#forget(id)
    this.#add(id, { ...known, outcome, expiresAt: performance.now() + this.#limits.ttlMs })
  }

  async free(key: StoredKey): Promise<void> {
    this.#delete(idOf(key))
  }

  #add(id: string, request: KnownRequest<Answer>): void {
    this.#requests.set(id, request)
    const own = this.#keysByCaller.get(request.caller)
    if (own === undefined) this.#keysByCaller.set(request.caller, new Set([id]))
    else own.add(id)
  }

  /** Takes bytes, for which the oldest answers of the same caller may have to go. */
  #grow(caller: string, held: Held, bytes: number): boolean {
    if (held.grow(bytes)) return true
    for (const id of this.#keysByCaller.get(caller) ?? []) {
      if (this.#requests.get(id)!.outcome === undefined) continue
      this.#delete(id)
      if (held.grow(bytes)) return true
    }
    return false
  }

  #delete(id: string): void {
    this.#requests.get(id)?.held.release()
    this.#forget(id)
  }

  #forget(id: string): void {
    const known = this.#requests.get(id)
    if (known === undefined) return
    this.#requests.delete(id)
    const own = this.#keysByCaller.get(known.caller)!
    own.delete(id)
    if (own.size === 0) this.#keysByCaller.delete(known.caller)
  }

  #deleteExpired(): void {
    const now = performance.now()
    for (const [id, { expiresAt }] of this.#requests) {
      if (expiresAt === Infinity) continue
      if (expiresAt > now) return
      this.#delete(id)
    }
  }

  /** Deletes the first of these keys whose request is answered. */
  #evictAnswered(ids: Iterable<string>, allAreRunning: string): void {
    let running = 0
    for (const id of ids) {
      if (this.#requests.get(id)!.outcome !== undefined) return this.#delete(id)
      running += 1
    }
    throw new CausewayError('overloaded', `${running} requests with an Idempotency-Key ${allAreRunning}`, {
      outcome: 'not-sent',
      retryAfter: 1,
    })
  }
}

function memoryIsShort(): CausewayError {
  return new CausewayError(
    'overloaded',
    'This caller already has as much memory as CAUSEWAY_MEMORY_BYTES leaves it; the message was not sent',
    { outcome: 'not-sent', retryAfter: 1 },
  )
}

/** What a retry gets where there was no room for the first answer. The request itself was carried out. */
function answerNotKept(): KeptError {
  return {
    code: 'overloaded',
    detail: 'The request was carried out. Its answer was too large to be kept for a retry',
    details: { outcome: 'unknown' },
  }
}

function idOf({ caller, key }: StoredKey): string {
  return JSON.stringify([caller, key])
}
