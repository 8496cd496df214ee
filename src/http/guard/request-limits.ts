import type { FastifyReply } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { networkOf } from '../../auth/network.ts'
import { CausewayError } from '../../errors.ts'
import { RateLimit } from './rate-limit.ts'

export interface RequestLimitsOptions {
  /** Requests a second of one caller, and of one address, or IPv6 /64; 0 for no limit. */
  perIdentity: number
  perAddress: number
  /** Called with the limit that refused a request. */
  onRefused(limit: 'rate-identity' | 'rate-address'): void
}

/**
 * How many requests a second callers and addresses may send. What is left stands in the answer
 * (draft-ietf-httpapi-ratelimit-headers-10), where there is a limit.
 */
export class RequestLimits {
  readonly #options: RequestLimitsOptions
  readonly #ofIdentities = new RateLimit()
  readonly #ofAddresses = new RateLimit()

  constructor(options: RequestLimitsOptions) {
    this.#options = options
  }

  /** @throws CausewayError `rate-limited` */
  takeFromAddress(address: string, reply: FastifyReply): void {
    const { perAddress } = this.#options
    if (perAddress > 0) {
      this.#take('address', this.#ofAddresses, networkOf(address), perAddress, 'CAUSEWAY_RATE_ADDRESS', reply)
    }
  }

  /** @throws CausewayError `rate-limited` */
  takeFromIdentity({ name, limits }: Identity, reply: FastifyReply): void {
    const quota = limits?.rate ?? this.#options.perIdentity
    if (quota > 0) {
      this.#take(
        'identity',
        this.#ofIdentities,
        name,
        quota,
        limits?.rate === undefined ? 'CAUSEWAY_RATE_IDENTITY' : 'the rate of this token',
        reply,
      )
    }
  }

  #take(
    policy: 'identity' | 'address',
    limit: RateLimit,
    caller: string,
    quota: number,
    setting: string,
    reply: FastifyReply,
  ): void {
    const { isAllowed, remaining, resetS } = limit.take(caller, quota)
    append(reply, 'ratelimit-policy', `"${policy}";q=${quota};w=1`)
    append(reply, 'ratelimit', `"${policy}";r=${remaining};t=${resetS}`)
    if (isAllowed) return
    this.#options.onRefused(`rate-${policy}`)
    const whose = policy === 'identity' ? 'of this caller' : 'from this address'
    throw new CausewayError(
      'rate-limited',
      `More than ${quota} requests a second ${whose}, which is all that ${setting} allows; this one had no effect`,
      { outcome: 'not-sent', retryAfter: resetS },
    )
  }
}

function append(reply: FastifyReply, name: string, value: string): void {
  const before = reply.getHeader(name)
  reply.header(name, before === undefined ? value : `${before as string}, ${value}`)
}
