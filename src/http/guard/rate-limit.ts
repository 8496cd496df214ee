import { LRUCache } from 'lru-cache'

/** The result of one request, and what is left of the quota after it. */
export interface Allowance {
  isAllowed: boolean
  /** Requests a second. */
  quota: number
  /** Number of requests that would be allowed at once now. */
  remaining: number
  /** Seconds until the quota is full again, or where nothing remains, until the next request is allowed. */
  resetS: number
}

interface Bucket {
  tokens: number
  /** In milliseconds of the clock. */
  filledAt: number
}

/** Most callers. Beyond them the one that was idle for longest is forgotten, and starts with a full quota again. */
const CALLERS_MAX = 10_000

/**
 * Limits requests a second with a token bucket for each caller. A bucket holds the quota of one second and fills
 * steadily. The known packages keep a timer for each caller, or count in fixed windows, which allow twice the quota
 * around the end of a window.
 */
export class RateLimit {
  readonly #buckets = new LRUCache<string, Bucket>({ max: CALLERS_MAX })
  readonly #now: () => number

  /** @param now a clock in milliseconds that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  get size(): number {
    return this.#buckets.size
  }

  /** Counts one request of this caller. A refused request takes no token. */
  take(caller: string, quota: number): Allowance {
    const now = this.#now()
    let bucket = this.#buckets.get(caller)
    if (bucket === undefined) this.#buckets.set(caller, (bucket = { tokens: quota, filledAt: now }))
    bucket.tokens = Math.min(quota, bucket.tokens + ((now - bucket.filledAt) / 1000) * quota)
    bucket.filledAt = now
    const isAllowed = bucket.tokens >= 1
    if (isAllowed) bucket.tokens -= 1
    return allowanceOf(isAllowed, bucket.tokens, quota)
  }
}

/** @param tokens that are left in the bucket */
export function allowanceOf(isAllowed: boolean, tokens: number, quota: number): Allowance {
  const remaining = Math.floor(tokens)
  return { isAllowed, quota, remaining, resetS: Math.ceil(((remaining > 0 ? quota : 1) - tokens) / quota) }
}
