import { type IncomingMessage, ServerResponse } from 'node:http'

/** Where Node keeps the text of a head until it is written. Node's types do not have it. */
interface WithHead {
  _header: string
}

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
   * A head and its text leave as one piece. Node's own `end` adds an empty piece behind them, and to write two pieces
   * instead of one was 7 % of a small answer.
   */
  override end(...options: unknown[]): this {
    const [body, encoding, callback] = options
    const { socket } = this
    const isText = typeof body === 'string' && !encoding && !callback && this.headersSent && !this.chunkedEncoding
    if (!isText || socket === null || socket.writableCorked > 0) return super.end(...(options as []))
    socket.cork()
    this.write(body)
    socket.uncork()
    return super.end()
  }

  override writeHead(status: number, ...others: unknown[]): this {
    super.writeHead(status, ...(others as []))
    if (this.readyLines === '') return this
    const headers = others.at(-1)
    const hasPolicy = (isObject(headers) && POLICY in headers) || this.hasHeader(POLICY)
    const held = this as unknown as WithHead
    // In front of the blank line that ends the head.
    held._header = `${held._header.slice(0, -2)}${this.readyLines}${hasPolicy ? '' : this.readyPolicy}\r\n`
    return this
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
