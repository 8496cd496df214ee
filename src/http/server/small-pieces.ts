import { CausewayError } from '../../errors.ts'

/** Pieces that are always allowed, and bytes that a further piece has to have on average. A line of NDJSON has more. */
const PIECES_MIN = 1000
const BYTES_A_PIECE = 8

/**
 * Counts the pieces in which a body arrives. Each chunk of HTTP/1.1 and each frame of HTTP/2 costs some microseconds,
 * whatever its size: a megabyte in pieces of one byte would keep the event loop busy for seconds.
 */
export class SmallPieces {
  #pieces = 0
  #bytes = 0

  /** @returns whether the body has come in too many pieces */
  add(piece: Buffer): boolean {
    this.#pieces += 1
    this.#bytes += piece.length
    return this.#pieces > PIECES_MIN + this.#bytes / BYTES_A_PIECE
  }
}

export function tooManyPieces(): CausewayError {
  return new CausewayError('invalid-request', 'The body comes in too many small pieces; send larger ones')
}
