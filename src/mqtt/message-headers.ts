import type { Message } from './message.ts'

/**
 * Longest value of one header. Clients and proxies refuse messages whose headers are too long; Node allows 16 KiB in
 * all.
 */
const MAX_HEADER_LENGTH = 2048

/**
 * QoS and properties of a message as HTTP headers. A property that is too long for a header is left out. The content
 * type is not among them: see `mediaType`.
 */
export function messageHeaders({ qos, properties = {} }: Message): Record<string, string> {
  const { responseTopic, correlationData, messageExpiryInterval, payloadFormatIndicator, userProperties } = properties
  const headers: Record<string, string> = { 'mqtt-qos': String(qos) }
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
    if (value !== undefined && value.length <= MAX_HEADER_LENGTH) headers[name] = value
  }
  return headers
}

/** Percent-encodes what is not printable ASCII, so that no text can end the header and forge another one. */
export function headerValue(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent)
}

/** The publisher's content type where it is a media type, else `application/octet-stream`. */
export function mediaType({ properties }: Message): string {
  const sent = properties?.contentType
  const isMediaType =
    sent !== undefined && sent.length <= MAX_HEADER_LENGTH && /^[\w.+-]+\/[\w.+-]+( *;[\x20-\x7e]*)?$/.test(sent)
  return isMediaType ? sent : 'application/octet-stream'
}
