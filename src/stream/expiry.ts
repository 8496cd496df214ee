/** When a message expires (MQTT 5 section 3.3.2.3.3), and how its event says how many seconds are left. */
export class Expiry {
  readonly #atMs: number
  /** The seconds that the event says. */
  readonly #seconds: number
  readonly #withExpiry: (event: Buffer, seconds: number) => Buffer

  /**
   * @param seconds how long after its arrival
   * @param withExpiry the bytes of the event with other seconds
   * @param arrivedMs when it arrived, in milliseconds of `performance.now()`
   */
  constructor(seconds: number, withExpiry: (event: Buffer, seconds: number) => Buffer, arrivedMs = performance.now()) {
    this.#atMs = arrivedMs + seconds * 1000
    this.#seconds = seconds
    this.#withExpiry = withExpiry
  }

  /** The event as it is to be written now; undefined once the message has expired. */
  current(event: Buffer): Buffer | undefined {
    const leftMs = this.#atMs - performance.now()
    if (leftMs <= 0) return undefined
    const seconds = Math.ceil(leftMs / 1000)
    return seconds === this.#seconds ? event : this.#withExpiry(event, seconds)
  }
}
