/** Bytes that may be held at once. For one taker at a time; anyone gives back. */
export class ByteBudget {
  readonly #max: number
  #taken = 0
  #freed: (() => void) | undefined

  constructor(max: number) {
    this.#max = max
  }

  /** Resolves once they fit; more than there are at all once nothing else is held. */
  async take(bytes: number): Promise<void> {
    while (this.#taken > 0 && this.#taken + bytes > this.#max) await new Promise<void>((resolve) => (this.#freed = resolve))
    this.#taken += bytes
  }

  give(bytes: number): void {
    this.#taken -= bytes
    this.#freed?.()
  }
}
