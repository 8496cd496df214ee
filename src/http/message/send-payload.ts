import type { FastifyReply } from 'fastify'
import type { Message } from '../../mqtt/message.ts'

/** Clients and proxies refuse an answer over long headers, 16 KiB in all by default in Node. */
const MAX_HEADER = 2048

/**
 * Answers with a message's payload as it is: its content type where it has one, the rest in `MQTT-*` headers, each left
 * out where it is too long for one.
 */
export function sendPayload({ payload, qos, properties = {} }: Message, reply: FastifyReply): FastifyReply {
  const { responseTopic, correlationData, messageExpiryInterval, payloadFormatIndicator, userProperties } = properties
  const optional = {
    'mqtt-response-topic': responseTopic,
    'mqtt-correlation-data': correlationData,
    'mqtt-message-expiry-interval': messageExpiryInterval?.toString(),
    'mqtt-payload-format-indicator':
      payloadFormatIndicator === undefined ? undefined : `${Number(payloadFormatIndicator)}`,
    'mqtt-user-properties': userProperties && JSON.stringify(userProperties),
  }
  for (const [name, text] of Object.entries(optional)) {
    const value = text === undefined ? undefined : headerValue(text)
    if (value !== undefined && value.length <= MAX_HEADER) reply.header(name, value)
  }
  reply.headers({
    'mqtt-qos': qos,
    // Whoever may publish chose payload and type: a browser must neither guess another type nor run it as a page of ours.
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
    'cache-control': 'no-store',
  })
  return reply.type(contentType(properties.contentType)).send(payload)
}

/** Any text as a header value: percent-encoded where it is not printable ASCII. */
function headerValue(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent)
}

function contentType(sent: string | undefined): string {
  const isOne = sent !== undefined && sent.length <= MAX_HEADER && /^[\w.+-]+\/[\w.+-]+( *;[\x20-\x7e]*)?$/.test(sent)
  return isOne ? sent : 'application/octet-stream'
}
