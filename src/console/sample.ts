/** Most that are shown at once, as when a stream begins with retained messages. */
const BURST = 200
/** How many are shown each second. More cannot be read, and would cost more time than there is. */
const PER_SECOND = 100

/** Chooses what is shown of what comes: all, as long as that can be read, else some of it, evenly. */
export class Sample {
  #budget = BURST
  #at: number

  constructor(now: number) {
    this.#at = now
  }

  /** @param now in milliseconds */
  choose<Item>(items: readonly Item[], now: number): Item[] {
    this.#budget = Math.min(BURST, this.#budget + ((now - this.#at) / 1000) * PER_SECOND)
    this.#at = now
    const count = Math.min(items.length, Math.floor(this.#budget))
    this.#budget -= count
    if (count === items.length) return [...items]
    // The last one of each part, so that the newest item is among them.
    return Array.from({ length: count }, (_, index) => items[Math.ceil(((index + 1) * items.length) / count) - 1]!)
  }
}
