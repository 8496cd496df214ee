const FIRST_MS = 100
/** An attempt that finds nobody costs nothing, and a bridge that is back late is away for longer than its broker. */
const MAX_MS_AT_FIRST = 1000
const MAX_MS = 10_000
/** After this time in which no attempt succeeded, the broker is not expected back at any moment. */
const AT_FIRST_MS = 180_000

/** How long to wait before the next attempt to connect: longer with each failure in a row. */
export class Backoff {
  readonly #now: () => number
  #failures = 0
  #failingSince = 0
  #isRefused = false

  /** @param now milliseconds on a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** @param isRefused the broker is there and refuses: to ask often would only annoy it */
  failed(isRefused = false): void {
    if (this.#failures === 0) this.#failingSince = this.#now()
    this.#failures += 1
    this.#isRefused = isRefused
  }

  reset(): void {
    this.#failures = 0
    this.#isRefused = false
  }

  /**
   * 0 without a failure, then 100 ms, doubled with each further failure up to 1 s, and after three minutes up to 10 s.
   * The upper half of that is random, so that the connections of many bridges do not come back at the same moment.
   */
  delayMs(): number {
    if (this.#failures === 0) return 0
    const isAtFirst = !this.#isRefused && this.#now() - this.#failingSince < AT_FIRST_MS
    const doubled = FIRST_MS * 2 ** (this.#failures - 1)
    return Math.min(isAtFirst ? MAX_MS_AT_FIRST : MAX_MS, doubled) * (0.5 + Math.random() / 2)
  }
}
