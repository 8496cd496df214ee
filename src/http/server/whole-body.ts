import type { Http2ServerRequest } from 'node:http2'
import { Transform, type Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'

/**
 * Gives bodies over HTTP/2 what those over HTTP/1.1 have: one that was cut off fails rather than ends, one without a
 * length is read, and one that does not arrive in time is refused.
 * @param timeoutMs undefined for a body that has no end
 */
export function requireWholeBodies(
  app: FastifyInstance,
  timeoutMs: (request: FastifyRequest) => number | undefined,
): void {
  app.addHook('preParsing', async (request, _reply, payload) => {
    if (request.raw.httpVersionMajor !== 2) return payload
    const { headers, stream } = request.raw as unknown as Http2ServerRequest
    if (stream.destroyed) throw cutOff()
    if (stream.endAfterHeaders) return payload
    // Fastify takes a request for empty that says of its body neither type nor length, which over HTTP/2 it need not.
    if (headers['content-length'] === undefined) headers['transfer-encoding'] = 'chunked'
    const body = new Transform({
      transform: (chunk, _encoding, done) => done(null, chunk),
      // Node ends the body of a stream that was reset as if it were all there.
      flush: (done) => done(stream.aborted ? cutOff() : null),
    })
    const ms = timeoutMs(request)
    const timer =
      ms === undefined
        ? undefined
        : setTimeout(() => body.destroy(new CausewayError('request-timeout', 'The request did not arrive in time')), ms)
    body.once('end', () => clearTimeout(timer))
    // Not everybody reads it.
    body.on('error', () => {})
    stream.once('close', () => {
      clearTimeout(timer)
      body.destroy(cutOff())
    })
    // What is left of a body that nobody wants would keep the stream open behind its answer.
    stream.once('finish', () => body.writableEnded || stream.close())
    return (payload as Readable).pipe(body)
  })
  // Fastify asks for it where it stops reading; over HTTP/2, which has no such header, Node would warn of it.
  app.addHook('onSend', async (request, reply) => {
    if (request.raw.httpVersionMajor === 2) reply.removeHeader('connection')
  })
}

function cutOff(): CausewayError {
  return new CausewayError('invalid-request', 'The body was cut off')
}
