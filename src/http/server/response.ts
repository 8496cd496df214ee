import { type IncomingMessage, ServerResponse } from 'node:http'
import { ChunkFrames } from './chunk-frames.ts'

/** Node's types do not have it. */
const { _storeHeader: storeHeader } = ServerResponse.prototype as unknown as {
  _storeHeader(this: ServerResponse, statusLine: string, headers: object | undefined): void
}

/** A larger piece is not copied: all readers share its bytes. */
const FRAMED_MAX = 4096
const POLICY = 'content-security-policy'

/**
 * An answer whose head has lines that were made once and for all. Fastify and Node look at the name and the value of
 * each header of each answer: for the five security headers and the request id that was a twelfth of the instructions
 * of a publish.
 */
export class Response<Request extends IncomingMessage = IncomingMessage> extends ServerResponse<Request> {
  /** The lines, each with its CRLF. Whoever sets them has checked that no name or value contains a CR or LF. */
  readyLines = ''
  /** The same for the Content-Security-Policy, where the route sets none of its own. */
  readyPolicy = ''
  /**
   * To be set for streams, before `writeHead`: each small piece of the body leaves with its framing as one.
   * Node writes four, which was a third of the instructions of an event.
   */
  frames: ChunkFrames | undefined

  /**
   * A head and its text leave as one piece. Node's own `end` adds an empty piece behind them, and to write two pieces
   * instead of one was 7 % of a small answer.
   */
  override end(...options: unknown[]): this {
    const [body, encoding, callback] = options
    const { socket } = this
    if (this.frames !== undefined) {
      if (typeof body === 'string' || Buffer.isBuffer(body)) this.write(body)
      return super.end(ChunkFrames.last, options.find((option) => typeof option === 'function') as () => void)
    }
    const isText = typeof body === 'string' && !encoding && !callback && this.headersSent && !this.chunkedEncoding
    if (!isText || socket === null || socket.writableCorked > 0) return super.end(...(options as []))
    socket.cork()
    super.write(body)
    socket.uncork()
    return super.end()
  }

  override write(...options: unknown[]): boolean {
    const [piece, ...others] = options
    const { frames } = this
    if (frames === undefined || (piece as string | Buffer).length === 0) return super.write(...(options as [unknown]))
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : (piece as Buffer)
    if (bytes.length <= FRAMED_MAX) return super.write(frames.of(bytes), ...(others as []))
    super.write(ChunkFrames.start(bytes))
    super.write(bytes)
    return super.write(ChunkFrames.end, ...(others as []))
  }

  override writeHead(status: number, ...others: unknown[]): this {
    super.writeHead(status, ...(others as []))
    if (this.frames !== undefined) {
      if (!this.chunkedEncoding) this.frames = undefined
      this.chunkedEncoding = false
    }
    return this
  }

  /**
   * Node makes the text of a head with this. The lines go in behind the status line: to insert them afterwards cost 1 %
   * of a publish.
   */
  _storeHeader(statusLine: string, headers: object | undefined): void {
    const lines = headers !== undefined && POLICY in headers ? this.readyLines : this.readyLines + this.readyPolicy
    storeHeader.call(this, statusLine + lines, headers)
  }
}
