import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'

/**
 * Refuses HTTP/2 requests whose headers are too large. Node does so itself over HTTP/1.1. Over HTTP/2 it would reset
 * the stream without an answer, at 64 KiB or at a lower limit that it was given.
 */
export function limitHeaders(app: FastifyInstance, bytesMax: number): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { rawHeaders, httpVersionMajor } = request.raw
    if (httpVersionMajor !== 2) return done()
    let bytes = 0
    for (const text of rawHeaders) bytes += text.length
    if (bytes <= bytesMax) return done()
    done(new CausewayError('headers-too-large', 'The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES'))
  })
}
