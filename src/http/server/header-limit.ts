import { constants, type Http2ServerRequest } from 'node:http2'
import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'

/** What Node and Fastify keep for an open HTTP/2 request besides its headers, roughly. */
const REQUEST_BYTES = 4096

/**
 * Holds the headers of HTTP/2 requests for their caller until the answer is read. One byte may stand for a header of
 * 4 KB, and a client whose window is 0 keeps its answers open. Where there is no room, the stream is reset: an answer
 * would be one more that nobody reads.
 */
export function holdHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.raw.httpVersionMajor !== 2) return done()
    const { stream } = request.raw as unknown as Http2ServerRequest
    const { share } = request
    const bytes = REQUEST_BYTES + sizeOfHeaders(request.raw.rawHeaders)
    if (stream.destroyed || !share.take('requests', bytes)) {
      reply.hijack()
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
      return
    }
    stream.once('close', () => share.give('requests', bytes))
    done()
  })
}

/**
 * Refuses HTTP/2 requests whose headers are too large. Node does so itself over HTTP/1.1. Over HTTP/2 it would reset
 * the stream without an answer, at 64 KiB or at a lower limit that it was given.
 */
export function limitHeaders(app: FastifyInstance, bytesMax: number): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { rawHeaders, httpVersionMajor } = request.raw
    if (httpVersionMajor !== 2 || sizeOfHeaders(rawHeaders) <= bytesMax) return done()
    done(new CausewayError('headers-too-large', 'The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES'))
  })
}

function sizeOfHeaders(rawHeaders: readonly string[]): number {
  let bytes = 0
  for (const text of rawHeaders) bytes += text.length
  return bytes
}
