import { LRUCache } from 'lru-cache'
import { CausewayError } from '../../errors.ts'
import { networkOf } from '../network.ts'

export interface RefusalLimits {
  /** How long refused credentials are remembered, and counted for their address. */
  windowMs: number
  /** Most refused credentials of one address in that time. Its next ones are refused without asking the broker. */
  perAddress: number
}

/** Most credentials and most addresses that are remembered. Beyond them the oldest is forgotten. */
const REMEMBERED_MAX = 10_000

/**
 * Remembers credentials that the broker refused a moment ago, so that requests with wrong credentials do not each open
 * a connection to the broker.
 */
export class Refusals {
  readonly #limits: RefusalLimits
  /** The problem that credentials were refused with, by their digest. */
  readonly #refused: LRUCache<string, CausewayError>
  /** Number of refused credentials of each network. `windowMs` starts with the first one. */
  readonly #counts: LRUCache<string, { count: number }>

  constructor(limits: RefusalLimits) {
    this.#limits = limits
    // `ttlResolution: 0` reads the clock at each access. By default the cache keeps one reading for a millisecond.
    const options = { max: REMEMBERED_MAX, ttl: limits.windowMs, ttlResolution: 0 }
    this.#refused = new LRUCache(options)
    this.#counts = new LRUCache(options)
  }

  /**
   * @param key digest of the credentials
   * @throws CausewayError the same as the last time, or `too-many-attempts`
   */
  check(key: string, address: string): void {
    // `peek` and not `get`, which would move the entry: the oldest has to be the first that is forgotten.
    const problem = this.#refused.peek(key)
    if (problem !== undefined) throw problem
    const network = networkOf(address)
    const count = this.#counts.peek(network)?.count ?? 0
    if (count < this.#limits.perAddress) return
    throw new CausewayError(
      'too-many-attempts',
      `${count} credentials from this address were refused; CAUSEWAY_AUTH_REFUSED_MAX allows no more for now`,
      { retryAfter: Math.max(1, Math.ceil(this.#counts.getRemainingTTL(network) / 1000)) },
    )
  }

  remember(key: string, address: string, problem: CausewayError): void {
    this.#refused.set(key, problem)
    const network = networkOf(address)
    const counted = this.#counts.peek(network)
    if (counted === undefined) this.#counts.set(network, { count: 1 })
    else counted.count += 1
  }
}
