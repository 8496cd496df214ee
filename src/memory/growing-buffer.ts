import type { Held } from './account.ts'

/** First size of the buffer for small pieces. */
const FIRST_BYTES = 4096
/** A piece of this size is kept as it is. It may be a view of a buffer that is at most four times as large. */
const LARGE_BYTES = 16_384

/**
 * Bytes that arrive in pieces. Small ones are copied into one buffer: kept as they come, pieces of one byte would take
 * 65 bytes each. What all of it takes is held for the caller.
 */
export class GrowingBuffer {
  readonly #held: Held
  readonly #bytesMax: number
  /** What came before the bytes in `#buffer`. */
  #parts: Buffer[] = []
  #partsLength = 0
  #buffer = Buffer.alloc(0)
  #bufferLength = 0

  /**
   * @param held released by whoever made it
   * @param bytesMax more than this is never appended, so the buffer need not become larger
   */
  constructor(held: Held, bytesMax: number) {
    this.#held = held
    this.#bytesMax = bytesMax
  }

  get length(): number {
    return this.#partsLength + this.#bufferLength
  }

  /** @returns false where there is no room for so many bytes more, and nothing has changed */
  append(piece: Buffer): boolean {
    if (piece.length >= LARGE_BYTES) return this.#keep(piece)
    const length = this.#bufferLength + piece.length
    if (length > this.#buffer.length) {
      const size = Math.max(length, Math.min(Math.max(FIRST_BYTES, this.#buffer.length * 2), this.#bytesMax))
      if (!this.#held.grow(size - this.#buffer.length)) return false
      const larger = Buffer.allocUnsafeSlow(size)
      this.#buffer.copy(larger, 0, 0, this.#bufferLength)
      this.#buffer = larger
    }
    piece.copy(this.#buffer, this.#bufferLength)
    this.#bufferLength = length
    return true
  }

  /** The bytes so far, which the caller may keep. The buffer is empty afterwards, and nothing is held any more. */
  take(): Buffer {
    const last = this.#buffer.subarray(0, this.#bufferLength)
    const bytes = this.#parts.length === 0 ? last : Buffer.concat([...this.#parts, last])
    this.clear()
    return bytes
  }

  clear(): void {
    this.#held.shrink(this.#partsLength + this.#buffer.length)
    this.#parts = []
    this.#partsLength = 0
    this.#buffer = Buffer.alloc(0)
    this.#bufferLength = 0
  }

  #keep(piece: Buffer): boolean {
    if (!this.#held.grow(piece.length)) return false
    if (this.#bufferLength > 0) {
      this.#held.shrink(this.#buffer.length - this.#bufferLength)
      this.#parts.push(Buffer.from(this.#buffer.subarray(0, this.#bufferLength)))
      this.#partsLength += this.#bufferLength
      this.#buffer = Buffer.alloc(0)
      this.#bufferLength = 0
    }
    this.#parts.push(piece)
    this.#partsLength += piece.length
    return true
  }
}
