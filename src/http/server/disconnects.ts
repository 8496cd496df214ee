import type { ServerHttp2Stream } from 'node:http2'
import type { FastifyReply } from 'fastify'

/** Over HTTP/2 Node says only of the stream what it says of the response over HTTP/1.1. */
function streamOf({ raw }: FastifyReply): ServerHttp2Stream | undefined {
  return (raw as { stream?: ServerHttp2Stream }).stream
}

/** Whether the caller is gone. */
export function isDisconnected(reply: FastifyReply): boolean {
  return reply.raw.destroyed || streamOf(reply)?.destroyed === true
}

/** Whether the caller left before its answer was whole. Over HTTP/1.1 such an answer does not even pass for finished. */
export function wasAborted(reply: FastifyReply): boolean {
  return streamOf(reply)?.aborted === true
}
