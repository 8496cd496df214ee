import type { Held } from './account.ts'

/** First size of the buffer. Most bodies in several pieces are larger than this. */
const FIRST_BYTES = 4096

/**
 * Bytes that arrive in pieces, copied into one buffer. Kept as they come, pieces of one byte would take 65 bytes each.
 * What the buffer takes is held for the caller.
 */
export class GrowingBuffer {
  readonly #held: Held
  readonly #bytesMax: number
  #buffer = Buffer.alloc(0)
  #length = 0

  /**
   * @param held released by whoever made it
   * @param bytesMax more than this is never appended, so the buffer need not become larger
   */
  constructor(held: Held, bytesMax: number) {
    this.#held = held
    this.#bytesMax = bytesMax
  }

  get length(): number {
    return this.#length
  }

  /** @returns false where there is no room for so many bytes more, and nothing has changed */
  append(piece: Buffer): boolean {
    const length = this.#length + piece.length
    if (length > this.#buffer.length) {
      const size = Math.max(length, Math.min(Math.max(FIRST_BYTES, this.#buffer.length * 2), this.#bytesMax))
      if (!this.#held.grow(size - this.#buffer.length)) return false
      const larger = Buffer.allocUnsafeSlow(size)
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    piece.copy(this.#buffer, this.#length)
    this.#length = length
    return true
  }

  /** The bytes so far, which the caller may keep. The buffer is empty afterwards, and nothing is held any more. */
  take(): Buffer {
    const bytes = this.#buffer.subarray(0, this.#length)
    this.clear()
    return bytes
  }

  clear(): void {
    this.#held.shrink(this.#buffer.length)
    this.#buffer = Buffer.alloc(0)
    this.#length = 0
  }
}
