/** Readers written to in one turn of the event loop. That takes some milliseconds, nearly all of it in system calls. */
const READERS_PER_TURN = 100

/** Something that writes to its readers when its turn comes. */
export interface FanOutChannel {
  /** Writes to the next of its readers, at most so many. Returns to how many. */
  write(maxReaders: number): number
  /** Whether some readers have not been written all there is. */
  readonly hasUnwritten: boolean
}

/**
 * Writes to the readers of all channels that have something new, a limited number in each turn of the event loop. A
 * message that arrives between two turns is included in the writes to the readers that come next, so that it waits for
 * one round of all readers at most. If a whole round were written at once, it could wait for two.
 */
export class FanOut {
  readonly #waiting = new Set<FanOutChannel>()
  #isScheduled = false

  add(channel: FanOutChannel): void {
    this.#waiting.add(channel)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#writeTurn()
      if (this.#waiting.size > 0) this.#schedule()
    })
  }

  #writeTurn(): void {
    let remaining = READERS_PER_TURN
    for (const channel of this.#waiting) {
      remaining -= channel.write(remaining)
      // A channel with more to write goes to the end of the queue, so that one with many readers does not delay the
      // others.
      this.#waiting.delete(channel)
      if (channel.hasUnwritten) this.#waiting.add(channel)
      if (remaining === 0) return
    }
  }
}
