import type { FastifyReply } from 'fastify'
import type { Message } from '../mqtt/message.ts'

/** Answers with a message's payload as it is: its content type where it has one, the rest in `MQTT-*` headers. */
export function sendPayload({ payload, qos, properties }: Message, reply: FastifyReply): FastifyReply {
  reply.headers({
    'mqtt-qos': qos,
    ...(properties?.responseTopic !== undefined && { 'mqtt-response-topic': headerValue(properties.responseTopic) }),
    ...(properties?.correlationData !== undefined && { 'mqtt-correlation-data': properties.correlationData }),
    ...(properties?.messageExpiryInterval !== undefined && { 'mqtt-message-expiry-interval': properties.messageExpiryInterval }),
    ...(properties?.payloadFormatIndicator !== undefined && { 'mqtt-payload-format-indicator': Number(properties.payloadFormatIndicator) }),
    ...(properties?.userProperties !== undefined && { 'mqtt-user-properties': headerValue(JSON.stringify(properties.userProperties)) }),
    // Whoever may publish chose payload and type: a browser must neither guess another type nor run it as a page of ours.
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
    'cache-control': 'no-store',
  })
  return reply.type(contentType(properties?.contentType)).send(payload)
}

/** Any text as a header value: percent-encoded where it is not printable ASCII. */
function headerValue(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent)
}

function contentType(sent: string | undefined): string {
  return sent !== undefined && /^[\w.+-]+\/[\w.+-]+(\s*;[\x20-\x7e]*)?$/.test(sent) ? sent : 'application/octet-stream'
}
