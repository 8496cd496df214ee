import type { ServerHttp2Stream } from 'node:http2'
import type { FastifyReply } from 'fastify'

/** Over HTTP/2, Node reports a disconnect on the stream. Over HTTP/1.1 it reports it on the response. */
function streamOf({ raw }: FastifyReply): ServerHttp2Stream | undefined {
  return (raw as { stream?: ServerHttp2Stream }).stream
}

/** Whether the client has closed the connection or the HTTP/2 stream. */
export function isDisconnected(reply: FastifyReply): boolean {
  return reply.raw.destroyed || streamOf(reply)?.destroyed === true
}

/** Whether an HTTP/2 client left before it had the whole answer. An HTTP/1.1 answer never counts as finished then. */
export function wasAborted(reply: FastifyReply): boolean {
  return streamOf(reply)?.aborted === true
}

/** Whether the whole answer went to the client. To be asked once the answer is closed. */
export function isWhole(reply: FastifyReply): boolean {
  const stream = streamOf(reply)
  return stream === undefined ? reply.raw.writableFinished : stream.writableFinished && !stream.aborted
}
