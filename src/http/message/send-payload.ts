import type { FastifyReply } from 'fastify'
import type { Message } from '../../mqtt/message.ts'

/**
 * Longest value of one header. Clients and proxies refuse answers whose headers are too long; Node allows 16 KiB in
 * all.
 */
const MAX_HEADER_LENGTH = 2048

/**
 * Answers with a message's payload as it is. Its content type becomes Content-Type; QoS and the other properties become
 * `MQTT-*` headers. A property that is too long for a header is left out.
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
    if (value !== undefined && value.length <= MAX_HEADER_LENGTH) reply.header(name, value)
  }
  reply.headers({
    'mqtt-qos': qos,
    // Anyone who may publish chooses payload and type. A browser must neither guess another type nor run it as a page.
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
    'cache-control': 'no-store',
  })
  return reply.type(safeContentType(properties.contentType)).send(payload)
}

/** Percent-encodes what is not printable ASCII, so that no text can end the header and forge another one. */
function headerValue(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent)
}

/** The publisher's content type where it is a media type, else `application/octet-stream`. */
function safeContentType(sent: string | undefined): string {
  const isMediaType =
    sent !== undefined && sent.length <= MAX_HEADER_LENGTH && /^[\w.+-]+\/[\w.+-]+( *;[\x20-\x7e]*)?$/.test(sent)
  return isMediaType ? sent : 'application/octet-stream'
}
