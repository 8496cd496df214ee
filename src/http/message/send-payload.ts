import type { FastifyReply } from 'fastify'
import type { Message } from '../../mqtt/message.ts'
import { mediaType, messageHeaders } from '../../mqtt/message-headers.ts'

/**
 * Answers with a message's payload as it is. Its content type becomes Content-Type; QoS and the other properties become
 * `MQTT-*` headers. A property that is too long for a header is left out.
 */
export function sendPayload(message: Message, reply: FastifyReply): FastifyReply {
  reply.headers({
    ...messageHeaders(message),
    // Anyone who may publish chooses payload and type. A browser must not run it as a page.
    'content-security-policy': "sandbox; default-src 'none'",
    'cache-control': 'no-store',
  })
  return reply.type(mediaType(message)).send(message.payload)
}
