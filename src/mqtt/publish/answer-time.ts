const NEW_SHARE = 1 / 8
const NEW_DEVIATION_SHARE = 1 / 4
/** Of the mean. The deviation of steady acknowledgements nears 0, and the next one may still be a little late. */
const LEAST_MARGIN = 1 / 4

/**
 * How long the broker takes to acknowledge a publish, as its last acknowledgements say. Mean and deviation are kept as
 * TCP keeps those of its round-trip time (RFC 6298 section 2): a few numbers, whatever the number of publishes.
 */
export class AnswerTime {
  readonly #maxAgeMs: number
  #meanMs = 0
  #deviationMs = 0
  #lastAt = -Infinity

  /** @param maxAgeMs after so long without an acknowledgement, the earlier ones say nothing any more */
  constructor(maxAgeMs: number) {
    this.#maxAgeMs = maxAgeMs
  }

  /** @param now of `performance.now()` */
  add(tookMs: number, now: number): void {
    if (now - this.#lastAt > this.#maxAgeMs) {
      this.#meanMs = tookMs
      this.#deviationMs = tookMs / 2
    } else {
      this.#deviationMs += NEW_DEVIATION_SHARE * (Math.abs(tookMs - this.#meanMs) - this.#deviationMs)
      this.#meanMs += NEW_SHARE * (tookMs - this.#meanMs)
    }
    this.#lastAt = now
  }

  /** Nearly every acknowledgement comes within this time. 0 where nothing is known. */
  expectedMs(now: number): number {
    if (now - this.#lastAt > this.#maxAgeMs) return 0
    return this.#meanMs + Math.max(4 * this.#deviationMs, LEAST_MARGIN * this.#meanMs)
  }

  /**
   * How long a publish waits until it is sent behind `waiting` others, of which `window` are on the wire at a time: a
   * window is emptied once in the mean time. 0 where nothing is known.
   */
  waitMs(waiting: number, window: number, now: number): number {
    return now - this.#lastAt > this.#maxAgeMs ? 0 : (waiting / window) * this.#meanMs
  }
}
