const FIRST_MS = 100
const MAX_MS = 10_000

/** How long to wait before the next attempt to connect: longer with each failure in a row. */
export class Backoff {
  #failures = 0

  failed(): void {
    this.#failures += 1
  }

  reset(): void {
    this.#failures = 0
  }

  /**
   * 0 without a failure, then 100 ms, doubled with each further failure up to 10 s. The upper half of that is random,
   * so that the connections of many bridges do not come back at the same moment.
   */
  delayMs(): number {
    if (this.#failures === 0) return 0
    return Math.min(MAX_MS, FIRST_MS * 2 ** (this.#failures - 1)) * (0.5 + Math.random() / 2)
  }
}
