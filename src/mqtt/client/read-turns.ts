import type { Readable } from 'node:stream'

/** What is shorter was all there was. Over TLS the largest pieces are of this length, otherwise four times as long. */
const PIECE_BYTES = 16_384
const TURN_BYTES = 524_288

/**
 * Node reads up to two megabytes of a socket in one turn of the event loop. With tens of thousands of messages in them,
 * everybody else waits for a tenth of a second. So a part is read at once, and the rest in the next turns.
 */
export class ReadTurns {
  readonly #stream: Pick<Readable, 'pause' | 'resume'>
  /** In this turn. */
  #bytes = 0

  constructor(stream: Pick<Readable, 'pause' | 'resume'>) {
    this.#stream = stream
  }

  /** To be called with the length of each piece, once what is in it is done. */
  took(length: number): void {
    if (length < PIECE_BYTES) return
    if (this.#bytes === 0) setImmediate(() => this.#nextTurn())
    const before = this.#bytes
    this.#bytes += length
    if (before < TURN_BYTES && this.#bytes >= TURN_BYTES) this.#stream.pause()
  }

  #nextTurn(): void {
    if (this.#bytes >= TURN_BYTES) this.#stream.resume()
    this.#bytes = 0
  }
}
