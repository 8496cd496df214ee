import { createHash, randomBytes } from 'node:crypto'
import { CausewayError } from '../../errors.ts'
import type { Held } from '../../memory/account.ts'
import { type Redis, RedisAway, type Script } from '../../redis/redis.ts'
import type { ClaimResult, IdempotencyStore, KeptError, Outcome, StoredKey } from './idempotency.ts'

export interface RedisStoreOptions {
  redis: Pick<Redis, 'run' | 'onBack'>
  /** Most keys of one caller. A new key then evicts the caller's own oldest one whose request does not run. */
  keysMaxPerCaller: number
  /** How long an answer is kept. */
  ttlMs: number
}

/**
 * A request that runs renews its key within this time. A key that was not renewed for so long belongs to a replica that
 * has ended, and nobody knows whether its message was sent.
 */
const LEASE_MS = 10_000
const RENEW_MS = 3000
/** Larger answers are not kept, as Redis keeps those of all callers in memory. */
const ANSWER_BYTES_MAX = 65_536
/** Most answers that wait for Redis to be back. */
const OWED_MAX = 10_000
const KEY_BYTES = 512

/** Keys of one caller have one hash slot: `{caller}`. Beside each key is its lease, and one index has all of them. */
const CLAIM: Script = {
  name: 'causewayClaim',
  keys: 3,
  lua: `
local entry, lease, index = KEYS[1], KEYS[2], KEYS[3]
local token, fingerprint, ttl, leaseMs, max, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local known = redis.call('HMGET', entry, 'fingerprint', 'outcome')
if known[1] then
  if known[1] ~= fingerprint then return {'mismatch'} end
  if known[2] then return {'done', known[2]} end
  return {redis.call('EXISTS', lease) == 1 and 'running' or 'abandoned'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', index, '-inf', now - ttl)
if redis.call('ZCARD', index) >= max then
  local base, hasRoom = string.sub(entry, 1, -#digest - 1), false
  for _, other in ipairs(redis.call('ZRANGE', index, 0, 99)) do
    local name = base .. other
    if redis.call('EXISTS', name .. ':lease') == 0 then
      redis.call('DEL', name)
      redis.call('ZREM', index, other)
      hasRoom = true
      break
    end
  end
  if not hasRoom then return {'full'} end
end
redis.call('HSET', entry, 'fingerprint', fingerprint, 'token', token)
redis.call('PEXPIRE', entry, ttl)
redis.call('SET', lease, token, 'PX', leaseMs)
redis.call('ZADD', index, now, digest)
redis.call('PEXPIRE', index, ttl)
return {'new'}`,
}

/** Renews the lease, and the key too if Redis has lost it. */
const RENEW: Script = {
  name: 'causewayRenew',
  keys: 3,
  lua: `
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1`,
}

const KEEP: Script = {
  name: 'causewayKeep',
  keys: 3,
  lua: `
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'token', ARGV[1], 'outcome', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1`,
}

const FREE: Script = {
  name: 'causewayFree',
  keys: 3,
  lua: `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
return 1`,
}

interface RunningKey {
  names: [entry: string, lease: string, index: string]
  digest: string
  token: string
  fingerprint: string
}

/** Keeps keys in Redis, where all replicas find them. */
export class RedisStore<Answer> implements IdempotencyStore<Answer> {
  readonly #options: RedisStoreOptions
  readonly #running = new Map<string, RunningKey>()
  /** What Redis has to be told once it is back, by the token of the request. */
  readonly #owed = new Map<string, { tell: () => Promise<unknown>; held: Held }>()

  constructor(options: RedisStoreOptions) {
    this.#options = options
    setInterval(() => void this.#renewAll(), RENEW_MS).unref()
    options.redis.onBack(() => void this.#settleOwed())
  }

  async claim(key: StoredKey, fingerprint: string): Promise<ClaimResult<Answer>> {
    const { redis, ttlMs, keysMaxPerCaller } = this.#options
    const running = { ...namesOf(key), token: randomBytes(12).toString('base64url'), fingerprint }
    const { names, token, digest } = running
    let answer: [state: string, outcome?: string]
    try {
      const values = [token, fingerprint, ttlMs, LEASE_MS, keysMaxPerCaller, digest]
      answer = (await redis.run(CLAIM, ...names, ...values)) as typeof answer
    } catch (error) {
      if (!(error instanceof RedisAway)) throw error
      // It may have taken the key for a request that is refused now.
      if (error.mayBeDone) this.#owe(key, token, 0, () => redis.run(FREE, ...names, token, digest))
      throw keysUnavailable(error)
    }
    const [state, outcome] = answer
    if (state === 'done') return { state, outcome: decode<Answer>(outcome!) }
    if (state === 'abandoned') return { state: 'done', outcome: { error: abandoned() } }
    if (state === 'full') throw allRunning(keysMaxPerCaller)
    if (state === 'new') this.#running.set(idOf(key), running)
    return { state: state as 'new' | 'running' | 'mismatch' }
  }

  async keep(key: StoredKey, outcome: Outcome<Answer>): Promise<void> {
    const running = this.#take(key)
    if (running === undefined) return
    const { names, token, digest, fingerprint } = running
    const full = encode(outcome)
    const text = full.length <= ANSWER_BYTES_MAX ? full : encode({ error: answerNotKept() })
    const { redis, ttlMs } = this.#options
    await this.#tell(key, token, text.length, () => redis.run(KEEP, ...names, token, fingerprint, ttlMs, digest, text))
  }

  async free(key: StoredKey): Promise<void> {
    const running = this.#take(key)
    if (running === undefined) return
    const { names, token, digest } = running
    await this.#tell(key, token, 0, () => this.#options.redis.run(FREE, ...names, token, digest))
  }

  #take(key: StoredKey): RunningKey | undefined {
    const id = idOf(key)
    const running = this.#running.get(id)
    this.#running.delete(id)
    return running
  }

  /** Tells Redis, now or once it is back. The request has its answer whether Redis is told or not. */
  async #tell(key: StoredKey, token: string, bytes: number, tell: () => Promise<unknown>): Promise<void> {
    try {
      await tell()
    } catch {
      this.#owe(key, token, bytes, tell)
    }
  }

  /** Where there is no room, a retry is told that the outcome is unknown, as after the end of a replica. */
  #owe({ share }: StoredKey, token: string, bytes: number, tell: () => Promise<unknown>): void {
    const held = share.hold('idempotency')
    if (this.#owed.size < OWED_MAX && held.grow(KEY_BYTES + bytes)) this.#owed.set(token, { tell, held })
  }

  async #settleOwed(): Promise<void> {
    await this.#renewAll()
    for (const [token, { tell, held }] of this.#owed) {
      try {
        await tell()
      } catch {
        return
      }
      this.#owed.delete(token)
      held.release()
    }
  }

  async #renewAll(): Promise<void> {
    const { redis, ttlMs } = this.#options
    const renewed = [...this.#running.values()].map(({ names, token, fingerprint, digest }) =>
      redis.run(RENEW, ...names, token, fingerprint, ttlMs, LEASE_MS, digest),
    )
    await Promise.allSettled(renewed)
  }
}

function namesOf({ caller, key }: StoredKey): Pick<RunningKey, 'names' | 'digest'> {
  const digest = digestOf(key)
  const base = `key:{${digestOf(caller)}}:`
  return { names: [base + digest, `${base}${digest}:lease`, `${base}all`], digest }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

function idOf({ caller, key }: StoredKey): string {
  return JSON.stringify([caller, key])
}

/** The payload of a reply is bytes, and everything else is JSON. */
function encode(outcome: Outcome<unknown>): string {
  const payload = 'answer' in outcome ? (outcome.answer as { payload?: unknown }).payload : undefined
  if (!Buffer.isBuffer(payload)) return JSON.stringify(outcome)
  const { answer } = outcome as { answer: object }
  return JSON.stringify({ answer: { ...answer, payload: undefined }, payload: payload.toString('base64') })
}

function decode<Answer>(text: string): Outcome<Answer> {
  const { payload, ...outcome } = JSON.parse(text) as { answer: object; payload?: string }
  if (payload === undefined) return outcome as Outcome<Answer>
  return { answer: { ...outcome.answer, payload: Buffer.from(payload, 'base64') } as Answer }
}

/** What a retry gets after the replica with the first request ended before it had an answer. */
function abandoned(): KeptError {
  return {
    code: 'publish-interrupted',
    detail:
      'The instance that took the first request with this Idempotency-Key ended before it had the answer, so ' +
      'nobody knows whether the message was published. To send it again, use a new key',
    details: { outcome: 'unknown' },
  }
}

/** What a retry gets where the first answer was too large. The request itself was carried out. */
function answerNotKept(): KeptError {
  return {
    code: 'overloaded',
    detail: `The request was carried out. Its answer was too large to be kept: more than ${ANSWER_BYTES_MAX} bytes`,
    details: { outcome: 'unknown' },
  }
}

function allRunning(max: number): CausewayError {
  return new CausewayError(
    'overloaded',
    `${max} requests with an Idempotency-Key of this caller are running; ` +
      'CAUSEWAY_IDEMPOTENCY_KEYS_MAX_IDENTITY allows no more',
    { outcome: 'not-sent', retryAfter: 1 },
  )
}

/** What a request with an Idempotency-Key gets meanwhile. */
function keysUnavailable({ message }: RedisAway): CausewayError {
  return new CausewayError(
    'idempotency-unavailable',
    `Whether this Idempotency-Key was used before cannot be told now, as Redis is away (${message}); ` +
      'the message was not sent',
    { outcome: 'not-sent', retryAfter: 1 },
  )
}
