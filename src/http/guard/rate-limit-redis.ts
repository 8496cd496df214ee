import { createHash } from 'node:crypto'
import type { Redis, Script } from '../../redis/redis.ts'
import { type Allowance, allowanceOf, RateLimit } from './rate-limit.ts'

/** The same bucket as that of `RateLimit`, by the clock of Redis. An idle one is full again after a second. */
const TAKE: Script = {
  name: 'causewayTake',
  keys: 1,
  lua: `
local quota = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or quota, tonumber(bucket[2]) or now
tokens = math.min(quota, tokens + math.max(0, now - at) / 1000 * quota)
local isAllowed = tokens >= 1
if isAllowed then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', KEYS[1], 2000)
return {isAllowed and 1 or 0, string.format('%.6f', tokens)}`,
}

/**
 * Limits requests a second over all replicas, in one step at Redis for each request. The count is exact, whichever
 * replica a request reaches, and the answer's headers are true; buckets here that Redis fills would be faster by one
 * round trip, and would refuse callers whose tokens lie at another replica. While Redis is away, each replica counts
 * for itself.
 */
export class RedisRateLimit {
  readonly #redis: Pick<Redis, 'run' | 'isConnected'>
  readonly #policy: string
  readonly #here = new RateLimit()

  /** @param policy tells its buckets from those of other limits */
  constructor(redis: Pick<Redis, 'run' | 'isConnected'>, policy: string) {
    this.#redis = redis
    this.#policy = policy
  }

  take(caller: string, quota: number): Allowance | Promise<Allowance> {
    if (!this.#redis.isConnected) return this.#here.take(caller, quota)
    // The names of callers are nobody's business there.
    const bucket = `rate:${this.#policy}:${createHash('sha256').update(caller).digest('base64url')}`
    return this.#redis.run(TAKE, bucket, quota).then(
      (result) => {
        const [isAllowed, tokens] = result as [number, string]
        return allowanceOf(isAllowed === 1, Number(tokens), quota)
      },
      () => this.#here.take(caller, quota),
    )
  }
}
