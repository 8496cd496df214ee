/** What is left of a quota after a request was taken from it. */
export interface Allowance {
  isAllowed: boolean
  /** Requests a second. */
  quota: number
  /** Whole requests that may come at once now. */
  remaining: number
  /** Seconds until there is more: until the whole quota, or until one request where nothing is left. */
  resetS: number
}

interface Bucket {
  tokens: number
  filledAt: number
}

/** Callers beyond these are forgotten, who was not heard of for longest first, and begin with a whole quota again. */
const REMEMBERED_MAX = 10_000

/**
 * Requests a second for each of many callers: a bucket each, which holds the quota of one second and fills steadily.
 * The packages for it keep a timer for each caller, or windows that let twice the quota through at their edge.
 */
export class RateLimit {
  readonly #buckets = new Map<string, Bucket>()
  readonly #now: () => number

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  get size(): number {
    return this.#buckets.size
  }

  take(caller: string, quota: number): Allowance {
    const now = this.#now()
    const { tokens: before, filledAt } = this.#buckets.get(caller) ?? { tokens: quota, filledAt: now }
    const tokens = Math.min(quota, before + ((now - filledAt) / 1000) * quota)
    const isAllowed = tokens >= 1
    const left = isAllowed ? tokens - 1 : tokens
    // Set anew, so that the order is that of their last requests.
    this.#buckets.delete(caller)
    if (this.#buckets.size >= REMEMBERED_MAX) this.#buckets.delete(this.#buckets.keys().next().value!)
    this.#buckets.set(caller, { tokens: left, filledAt: now })
    const remaining = Math.floor(left)
    return { isAllowed, quota, remaining, resetS: Math.ceil(((remaining > 0 ? quota : 1) - left) / quota) }
  }
}
