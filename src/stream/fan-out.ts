/** Readers written to in one turn of the loop. To write to so many takes some milliseconds, all of it in system calls. */
const READERS_A_TURN = 100

/** Something that writes to its readers in fanOut. */
export interface FanOutChannel {
  /** Writes to the next of its readers, so many at most, and says to how many. */
  write(most: number): number
  /** Whether some readers have not had all there is. */
  readonly isBehind: boolean
}

/**
 * Goes round the readers of all channels that have something for them. What comes in between two turns of the loop goes to
 * the readers whose turn is next already: a message waits for one round at most, where it would wait for two if a whole
 * round were written at once.
 */
export class FanOut {
  readonly #due = new Set<FanOutChannel>()
  #isScheduled = false

  add(channel: FanOutChannel): void {
    this.#due.add(channel)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#turn()
      if (this.#due.size > 0) this.#schedule()
    })
  }

  #turn(): void {
    let left = READERS_A_TURN
    for (const channel of this.#due) {
      left -= channel.write(left)
      // Those that have more to write come last, so that a channel with many readers keeps nobody else waiting.
      this.#due.delete(channel)
      if (channel.isBehind) this.#due.add(channel)
      if (left === 0) return
    }
  }
}
