/** Bytes of the longest Remaining Length (MQTT 5 section 1.5.5). */
const LENGTH_BYTES_MAX = 4

/**
 * Follows the lengths of the packets in a stream of bytes, without keeping any of the bytes. So it is known how large a
 * packet will be as soon as its first bytes are there.
 */
export class PacketScanner {
  /** Bytes of the current packet that are still to come. */
  #toSkip = 0
  /** Bytes of the current packet's header that were there: 0 between two packets. */
  #headerBytes = 0
  #remainingLength = 0
  #packets = 0

  /** How many packets were there as a whole. */
  get packets(): number {
    return this.#packets
  }

  get isBetweenPackets(): boolean {
    return this.#toSkip === 0 && this.#headerBytes === 0
  }

  /** Returns the size of the largest packet that begins in this chunk; 0 if none does. */
  scan(chunk: Uint8Array): number {
    let largest = 0
    let at = 0
    while (at < chunk.length) {
      if (this.#toSkip > 0) {
        const skipped = Math.min(this.#toSkip, chunk.length - at)
        this.#toSkip -= skipped
        at += skipped
        if (this.#toSkip === 0) this.#packets += 1
        continue
      }
      const byte = chunk[at]!
      at += 1
      this.#headerBytes += 1
      if (this.#headerBytes === 1) continue
      this.#remainingLength += (byte & 0x7f) * 128 ** (this.#headerBytes - 2)
      // A length of more bytes is malformed; the parser ends the connection over it.
      if (byte >= 0x80 && this.#headerBytes <= LENGTH_BYTES_MAX) continue
      largest = Math.max(largest, this.#headerBytes + this.#remainingLength)
      this.#toSkip = this.#remainingLength
      if (this.#toSkip === 0) this.#packets += 1
      this.#headerBytes = 0
      this.#remainingLength = 0
    }
    return largest
  }
}
