/** MQTT 5 section 3.3.2.3.8. */
export const IDENTIFIER_MAX = 268_435_455

/** Gives out subscription identifiers. None is given out again while it is in use. */
export class Identifiers {
  readonly #used = new Set<number>()
  #last: number

  /** @param last the one given out before the first one */
  constructor(last = 0) {
    this.#last = last
  }

  take(): number {
    do this.#last = (this.#last % IDENTIFIER_MAX) + 1
    while (this.#used.has(this.#last))
    this.#used.add(this.#last)
    return this.#last
  }

  give(identifier: number): void {
    this.#used.delete(identifier)
  }
}
