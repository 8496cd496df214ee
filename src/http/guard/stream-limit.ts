import type { Identity } from '../../auth/identity.ts'
import { networkOf } from '../../auth/network.ts'
import { CausewayError } from '../../errors.ts'

export interface StreamLimitOptions {
  /** Streams open at once: all there are, of one caller, and of one address, or IPv6 /64. Of the latter two 0 for no limit. */
  max: number
  perIdentity: number
  perAddress: number
  /** Called with the limit that refused a stream. */
  onRefused(limit: 'streams' | 'streams-identity' | 'streams-address'): void
}

const RETRY_AFTER_S = 5

/** Who has how many streams open. */
export class StreamLimit {
  readonly #options: StreamLimitOptions
  readonly #byIdentity = new Map<string, number>()
  readonly #byAddress = new Map<string, number>()
  #taken = 0

  constructor(options: StreamLimitOptions) {
    this.#options = options
  }

  /**
   * Returns what gives the seat back, to be called once.
   * @throws CausewayError where none is left
   */
  take({ name, limits }: Identity, address: string): () => void {
    const { max, perIdentity, perAddress, onRefused } = this.#options
    const network = networkOf(address)
    const own = limits?.streams ?? perIdentity
    if (this.#taken >= max) {
      onRefused('streams')
      throw new CausewayError(
        'too-many-streams',
        `${this.#taken} streams are open, which is all CAUSEWAY_STREAM_MAX allows`,
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
    this.#add(name, network, 1)
    return () => this.#add(name, network, -1)
  }

  #add(name: string, network: string, change: 1 | -1): void {
    this.#taken += change
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
    `${count} streams of ${whose} are open, which is all ${setting} allows; close one first`,
    { retryAfter: RETRY_AFTER_S },
  )
}
