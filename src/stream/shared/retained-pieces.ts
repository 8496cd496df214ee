import { encodeMessage, type Encoder } from '../events.ts'
import type { Chunk } from '../log.ts'

/** Messages are added to a piece until it has so many bytes. */
const PIECE_BYTES = 32_768
/** Bytes of the pieces that are kept for the next reader. One that is larger than all of this is not kept. */
const KEPT_BYTES = 1_048_576
/** After this they are given up: they keep the messages in memory, and whatever these are a part of. */
const KEPT_MS = 1000

interface Piece<Message> {
  encoder: string
  messages: readonly Message[]
  chunk: Chunk
}

/**
 * Retained messages, encoded in pieces for one write each. Readers that come at once begin with the same messages, so
 * the newest pieces are kept. Otherwise each message would be encoded once for each reader.
 */
export class RetainedPieces<Message> {
  readonly #kept: Piece<Message>[] = []
  #keptBytes = 0
  #isGivingUp = false

  /**
   * Some of the messages from `from` to before `end`, without ids. How many is the number of `events`.
   * @returns undefined where the first one is too large to be encoded
   */
  at(encoder: Encoder<Message>, messages: readonly Message[], from: number, end: number): Chunk | undefined {
    const kept = this.#kept.find(
      (piece) =>
        piece.encoder === encoder.name &&
        piece.messages.length <= end - from &&
        piece.messages.every((message, index) => message === messages[from + index]),
    )
    if (kept !== undefined) return kept.chunk
    const encoded: Buffer[] = []
    let bytes = 0
    for (let index = from; index < end && bytes < PIECE_BYTES; index += 1) {
      const event = encodeMessage(encoder, undefined, messages[index]!)
      if (event === undefined) break
      encoded.push(event)
      bytes += event.length
    }
    if (encoded.length === 0) return undefined
    const chunk = { bytes: Buffer.concat(encoded, bytes), events: encoded.length, end: 0 }
    this.#keep({ encoder: encoder.name, messages: messages.slice(from, from + encoded.length), chunk })
    return chunk
  }

  #keep(piece: Piece<Message>): void {
    const { length } = piece.chunk.bytes
    if (length > KEPT_BYTES) return
    this.#kept.push(piece)
    this.#keptBytes += length
    while (this.#keptBytes > KEPT_BYTES) this.#keptBytes -= this.#kept.shift()!.chunk.bytes.length
    if (this.#isGivingUp) return
    this.#isGivingUp = true
    setTimeout(() => {
      this.#isGivingUp = false
      this.#kept.length = 0
      this.#keptBytes = 0
    }, KEPT_MS).unref()
  }
}
