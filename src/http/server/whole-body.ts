import type { Http2ServerRequest } from 'node:http2'
import { Transform, type Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { refusalByHead } from './read-body.ts'

/**
 * Makes bodies over HTTP/2 behave as those over HTTP/1.1 do: a body that is cut off fails instead of ending, a body
 * without Content-Length is read, and a body that does not arrive in time is refused.
 * @param timeoutMs undefined for a body that may last for ever
 */
export function requireWholeBodies(
  app: FastifyInstance,
  timeoutMs: (request: FastifyRequest) => number | undefined,
): void {
  app.addHook('preParsing', (request, _reply, payload, next) => {
    if (request.raw.httpVersionMajor !== 2) return next(null, payload)
    const { headers, stream } = request.raw as unknown as Http2ServerRequest
    if (stream.destroyed) return next(cutOff())
    if (stream.endAfterHeaders) return next(null, payload)
    const { bodyLimit, config } = request.routeOptions
    const refusal = refusalByHead(request, config.streamsBody ? Infinity : bodyLimit!)
    if (refusal !== undefined) return next(refusal)
    // Fastify reads no body that has neither Content-Type, Content-Length nor Transfer-Encoding. HTTP/2 needs none.
    if (headers['content-length'] === undefined) headers['transfer-encoding'] = 'chunked'
    const body = new Transform({
      transform: (chunk, _encoding, done) => done(null, chunk),
      // Node ends the body of a stream that was reset as if it were complete.
      flush: (done) => done(stream.aborted ? cutOff() : null),
    })
    const ms = timeoutMs(request)
    const timer =
      ms === undefined
        ? undefined
        : setTimeout(() => body.destroy(new CausewayError('request-timeout', 'The request did not arrive in time')), ms)
    body.once('end', () => clearTimeout(timer))
    // Without a listener an error of a body that no handler reads would end the process.
    body.on('error', () => {})
    stream.once('close', () => {
      clearTimeout(timer)
      body.destroy(cutOff())
    })
    // The unread rest of a body would keep the stream open after its answer.
    stream.once('finish', () => body.writableEnded || stream.close())
    next(null, (payload as Readable).pipe(body))
  })
}

function cutOff(): CausewayError {
  return new CausewayError('invalid-request', 'The body ended before it was complete')
}
