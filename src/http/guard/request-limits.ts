import type { FastifyReply } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { networkOf } from '../../auth/network.ts'
import { CausewayError } from '../../errors.ts'
import { type Allowance, RateLimit } from './rate-limit.ts'

/** Counts one request of a caller. A refused request takes nothing of the quota. */
export interface Limit {
  take(caller: string, quota: number): Allowance | Promise<Allowance>
}

export interface RequestLimitsOptions {
  /** Requests a second of one caller; 0 for no limit. */
  perIdentity: number
  /** Requests a second of one IPv4 address or IPv6 /64 network; 0 for no limit. */
  perAddress: number
  /** Called with the limit that refused a request. */
  onRefused(limit: 'rate-identity' | 'rate-address'): void
  /** Makes a limit that all replicas share, instead of one of this process. */
  sharedLimit?: ((policy: 'identity' | 'address') => Limit) | undefined
}

/**
 * Limits the requests a second of callers and addresses. Where there is a limit, the answer says how much is left
 * (`RateLimit` headers, draft-ietf-httpapi-ratelimit-headers-10).
 */
export class RequestLimits {
  readonly #options: RequestLimitsOptions
  readonly #identities: Limit
  readonly #addresses: Limit

  constructor(options: RequestLimitsOptions) {
    this.#options = options
    const { sharedLimit = () => new RateLimit() } = options
    this.#identities = sharedLimit('identity')
    this.#addresses = sharedLimit('address')
  }

  /**
   * Counts a request of this address. Takes no turn of the event loop where the limit is one of this process.
   * @throws CausewayError `rate-limited`, or rejects with it
   */
  checkAddress(address: string, reply: FastifyReply): void | Promise<void> {
    const { perAddress } = this.#options
    if (perAddress > 0) {
      return this.#check('address', this.#addresses, networkOf(address), perAddress, 'CAUSEWAY_RATE_ADDRESS', reply)
    }
  }

  /**
   * Counts a request of this caller, as `checkAddress` does.
   * @throws CausewayError `rate-limited`, or rejects with it
   */
  checkIdentity({ name, limits }: Identity, reply: FastifyReply): void | Promise<void> {
    const quota = limits?.rate ?? this.#options.perIdentity
    if (quota > 0) {
      const setting = limits?.rate === undefined ? 'CAUSEWAY_RATE_IDENTITY' : 'its token'
      return this.#check('identity', this.#identities, name, quota, setting, reply)
    }
  }

  #check(
    policy: 'identity' | 'address',
    limit: Limit,
    key: string,
    quota: number,
    setting: string,
    reply: FastifyReply,
  ): void | Promise<void> {
    const allowance = limit.take(key, quota)
    if (allowance instanceof Promise) return allowance.then((each) => this.#apply(policy, each, setting, reply))
    this.#apply(policy, allowance, setting, reply)
  }

  #apply(
    policy: 'identity' | 'address',
    { isAllowed, quota, remaining, resetS }: Allowance,
    setting: string,
    reply: FastifyReply,
  ): void {
    append(reply, 'ratelimit-policy', `"${policy}";q=${quota};w=1`)
    append(reply, 'ratelimit', `"${policy}";r=${remaining};t=${resetS}`)
    if (isAllowed) return
    this.#options.onRefused(`rate-${policy}`)
    const who = policy === 'identity' ? 'This caller' : 'This address'
    throw new CausewayError(
      'rate-limited',
      `${who} sends more than ${quota} requests a second, the limit of ${setting}; this request had no effect`,
      { outcome: 'not-sent', retryAfter: resetS },
    )
  }
}

function append(reply: FastifyReply, name: string, value: string): void {
  const before = reply.getHeader(name)
  reply.header(name, before === undefined ? value : `${before as string}, ${value}`)
}
