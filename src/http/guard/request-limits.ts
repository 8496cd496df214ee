import type { FastifyReply } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { networkOf } from '../../auth/network.ts'
import { CausewayError } from '../../errors.ts'
import { RateLimit } from './rate-limit.ts'

export interface RequestLimitsOptions {
  /** Requests a second of one caller; 0 for no limit. */
  perIdentity: number
  /** Requests a second of one IPv4 address or IPv6 /64 network; 0 for no limit. */
  perAddress: number
  /** Called with the limit that refused a request. */
  onRefused(limit: 'rate-identity' | 'rate-address'): void
}

/**
 * Limits the requests a second of callers and addresses. Where there is a limit, the answer says how much is left
 * (`RateLimit` headers, draft-ietf-httpapi-ratelimit-headers-10).
 */
export class RequestLimits {
  readonly #options: RequestLimitsOptions
  readonly #identities = new RateLimit()
  readonly #addresses = new RateLimit()

  constructor(options: RequestLimitsOptions) {
    this.#options = options
  }

  /**
   * Counts a request of this address.
   * @throws CausewayError `rate-limited`
   */
  checkAddress(address: string, reply: FastifyReply): void {
    const { perAddress } = this.#options
    if (perAddress > 0) {
      this.#check('address', this.#addresses, networkOf(address), perAddress, 'CAUSEWAY_RATE_ADDRESS', reply)
    }
  }

  /**
   * Counts a request of this caller.
   * @throws CausewayError `rate-limited`
   */
  checkIdentity({ name, limits }: Identity, reply: FastifyReply): void {
    const quota = limits?.rate ?? this.#options.perIdentity
    if (quota > 0) {
      const setting = limits?.rate === undefined ? 'CAUSEWAY_RATE_IDENTITY' : 'its token'
      this.#check('identity', this.#identities, name, quota, setting, reply)
    }
  }

  #check(
    policy: 'identity' | 'address',
    limit: RateLimit,
    key: string,
    quota: number,
    setting: string,
    reply: FastifyReply,
  ): void {
    const { isAllowed, remaining, resetS } = limit.take(key, quota)
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
