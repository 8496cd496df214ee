import type { Readable } from 'node:stream'

/** What Node reads of a socket at once, where so much has come. */
const CHUNK_BYTES = 65_536
const CHUNKS_A_TURN = 8

/**
 * Node reads up to 32 chunks of a socket in one turn of the event loop. With tens of thousands of messages in them,
 * everybody else waits for a tenth of a second. So a few are read at once, and the rest in the next turns.
 */
export class ReadTurns {
  readonly #stream: Pick<Readable, 'pause' | 'resume'>
  /** Whole chunks in this turn. */
  #chunks = 0

  constructor(stream: Pick<Readable, 'pause' | 'resume'>) {
    this.#stream = stream
  }

  /** To be called with the length of each chunk, once what is in it is done. */
  took(length: number): void {
    if (length < CHUNK_BYTES) return
    this.#chunks += 1
    if (this.#chunks === CHUNKS_A_TURN) this.#stream.pause()
    if (this.#chunks > 1) return
    setImmediate(() => {
      if (this.#chunks >= CHUNKS_A_TURN) this.#stream.resume()
      this.#chunks = 0
    })
  }
}
