/**
 * Frames pieces of a body for the transfer coding `chunked` (RFC 9112 section 7.1). One for all streams of a server:
 * many readers are written the same piece one after the other, and it is framed once.
 */
export class ChunkFrames {
  /** What is behind a piece. */
  static readonly end = Buffer.from('\r\n')
  /** What ends the body. */
  static readonly last = Buffer.from('0\r\n\r\n')

  #piece: Buffer | undefined
  #framed = ChunkFrames.end

  /** What is in front of a piece. */
  static start({ length }: Buffer): string {
    return `${length.toString(16)}\r\n`
  }

  /** @param piece not empty, which would be the end of the body; nobody changes its bytes later */
  of(piece: Buffer): Buffer {
    if (piece !== this.#piece) {
      this.#framed = Buffer.concat([Buffer.from(ChunkFrames.start(piece)), piece, ChunkFrames.end])
      this.#piece = piece
    }
    return this.#framed
  }
}
