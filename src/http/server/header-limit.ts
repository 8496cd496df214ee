import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'

/**
 * What Node refuses over HTTP/1.1 by itself. Over HTTP/2 it takes 64 KiB before it resets the stream, or less where told
 * so, which would be no answer.
 */
export function limitHeaders(app: FastifyInstance, bytesMax: number): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { rawHeaders, httpVersionMajor } = request.raw
    if (httpVersionMajor !== 2) return done()
    let bytes = 0
    for (const text of rawHeaders) bytes += text.length
    done(
      bytes > bytesMax
        ? new CausewayError('headers-too-large', 'The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES')
        : undefined,
    )
  })
}
