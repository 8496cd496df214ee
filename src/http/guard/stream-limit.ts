import type { Identity } from '../../auth/identity.ts'
import { networkOf } from '../../auth/network.ts'
import { CausewayError } from '../../errors.ts'

export interface StreamLimitOptions {
  /** Most open streams. */
  max: number
  /** Most open streams of one caller; 0 for no limit. */
  perIdentity: number
  /** Most open streams of one IPv4 address or IPv6 /64 network; 0 for no limit. */
  perAddress: number
  /** Called with the limit that refused a stream. */
  onRefused(limit: 'streams' | 'streams-identity' | 'streams-address'): void
}

const RETRY_AFTER_S = 5

/** Counts the open streams, in all and of each caller and address, and refuses those beyond a limit. */
export class StreamLimit {
  readonly #options: StreamLimitOptions
  readonly #byIdentity = new Map<string, number>()
  readonly #byAddress = new Map<string, number>()
  #open = 0

  constructor(options: StreamLimitOptions) {
    this.#options = options
  }

  /**
   * Counts a new stream. The returned function ends it, and has to be called once.
   * @throws CausewayError `too-many-streams` or `too-many-own-streams`
   */
  take({ name, limits }: Identity, address: string): () => void {
    const { max, perIdentity, perAddress, onRefused } = this.#options
    const network = networkOf(address)
    const own = limits?.streams ?? perIdentity
    if (this.#open >= max) {
      onRefused('streams')
      throw new CausewayError(
        'too-many-streams',
        `${this.#open} streams are open; CAUSEWAY_STREAM_MAX allows no more`,
        { retryAfter: RETRY_AFTER_S },
      )
    }
    if (own > 0 && (this.#byIdentity.get(name) ?? 0) >= own) {
      onRefused('streams-identity')
      throw tooMany(own, 'this caller', limits?.streams === undefined ? 'CAUSEWAY_STREAM_MAX_IDENTITY' : 'its token')
    }
    if (perAddress > 0 && (this.#byAddress.get(network) ?? 0) >= perAddress) {
      onRefused('streams-address')
      throw tooMany(perAddress, 'this address', 'CAUSEWAY_STREAM_MAX_ADDRESS')
    }
    this.#count(name, network, 1)
    return () => this.#count(name, network, -1)
  }

  /** How many streams a caller may have open. */
  maxOf({ limits }: Identity): number {
    const { max, perIdentity } = this.#options
    const own = limits?.streams ?? perIdentity
    return own > 0 ? Math.min(own, max) : max
  }

  #count(name: string, network: string, change: 1 | -1): void {
    this.#open += change
    for (const [counts, key] of [
      [this.#byIdentity, name],
      [this.#byAddress, network],
    ] as const) {
      const count = (counts.get(key) ?? 0) + change
      if (count === 0) counts.delete(key)
      else counts.set(key, count)
    }
  }
}

function tooMany(count: number, whose: string, setting: string): CausewayError {
  return new CausewayError(
    'too-many-own-streams',
    `${count} streams of ${whose} are open; ${setting} allows no more. Close one first`,
    { retryAfter: RETRY_AFTER_S },
  )
}
