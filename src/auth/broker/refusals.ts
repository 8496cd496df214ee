import { CausewayError } from '../../errors.ts'
import { networkOf } from '../network.ts'

export interface RefusalLimits {
  /** How long refused credentials, and how many an address sent, are remembered. */
  windowMs: number
  /** Most refused credentials of one address in that time; what it sends then is not tried. */
  perAddress: number
}

interface Refusal {
  problem: CausewayError
  until: number
}

interface Attempts {
  count: number
  until: number
}

/** More addresses and credentials than these are not remembered, the oldest first. */
const REMEMBERED_MAX = 10_000

/** Credentials that were refused a moment ago, so that not every request with wrong ones is asked of the broker. */
export class Refusals {
  readonly #limits: RefusalLimits
  readonly #refused = new Map<string, Refusal>()
  readonly #attempts = new Map<string, Attempts>()

  constructor(limits: RefusalLimits) {
    this.#limits = limits
  }

  /** @throws CausewayError the refusal again, or `too-many-attempts` */
  check(key: string, address: string): void {
    const now = performance.now()
    const refusal = this.#refused.get(key)
    if (refusal !== undefined && refusal.until > now) throw refusal.problem
    const attempts = this.#attempts.get(networkOf(address))
    if (attempts === undefined || attempts.until <= now || attempts.count < this.#limits.perAddress) return
    throw new CausewayError(
      'too-many-attempts',
      `${attempts.count} credentials from this address were refused, which is all CAUSEWAY_AUTH_REFUSED_MAX allows`,
      { retryAfter: Math.ceil((attempts.until - now) / 1000) },
    )
  }

  remember(key: string, address: string, problem: CausewayError): void {
    const now = performance.now()
    const until = now + this.#limits.windowMs
    this.#refused.delete(key)
    bounded(this.#refused).set(key, { problem, until })
    const network = networkOf(address)
    const attempts = this.#attempts.get(network)
    if (attempts !== undefined && attempts.until > now) attempts.count += 1
    else {
      // Set anew, so that the order is the one in which they expire.
      this.#attempts.delete(network)
      bounded(this.#attempts).set(network, { count: 1, until })
    }
  }
}

function bounded<Value>(map: Map<string, Value>): Map<string, Value> {
  if (map.size >= REMEMBERED_MAX) map.delete(map.keys().next().value!)
  return map
}
