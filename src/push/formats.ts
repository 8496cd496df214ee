import { isUtf8 } from 'node:buffer'
import { type Message, type MessageProperties, toJsonText } from '../mqtt/message.ts'
import { headerValue, mediaType, messageHeaders } from '../mqtt/message-headers.ts'
import type { PushFormat } from './target.ts'

/** A message that is to be delivered. */
export interface Delivered {
  message: Message
  /** The same for all tries of the message in this process. */
  id: string
  /** When it came from the broker or, if it does not expire, into the window; in milliseconds of `Date.now()`. */
  receivedAt: number
}

export interface RequestBody {
  body: Buffer
  /** Names and values in turn. */
  headers: string[]
}

export interface FormatOptions {
  format: PushFormat
  /** Whether the body is an array, whatever the number of messages. Not with `raw`. */
  isBatch: boolean
  /** The `source` of CloudEvents. */
  source: string
  /** Milliseconds of `Date.now()`. */
  nowMs: number
}

const JSON_TYPE = /^[\w.+-]+\/(?:json|[\w.+-]*\+json)\s*(;|$)/i
/** Names of CloudEvents attributes: those of user properties may be any others. */
const RESERVED = [
  'specversion',
  'id',
  'source',
  'type',
  'subject',
  'time',
  'data',
  'datacontenttype',
  'dataschema',
  'redelivered',
]
const TRACE_HEADERS = ['traceparent', 'tracestate']
const NO_HEADERS: string[] = []

/**
 * The body of one request, and the headers that describe it.
 * @throws RangeError, or an error with the code `ERR_STRING_TOO_LONG`, where the text would be longer than V8 allows
 */
export function requestBody(items: readonly Delivered[], options: FormatOptions): RequestBody {
  const { format, isBatch, nowMs } = options
  const [first] = items
  if (format === 'raw') return rawBody(first!, nowMs)
  const write = format === 'message' ? messageText : cloudEvent
  const texts = items.map((item) => write(item, options))
  const type =
    format === 'message' ? 'application/json' : `application/cloudevents${isBatch ? '-batch' : ''}+json; charset=utf-8`
  return {
    body: Buffer.from(isBatch ? `[${texts.join()}]` : texts[0]!),
    headers: isBatch ? ['content-type', type] : ['content-type', type, ...traceHeaders(first!.message)],
  }
}

/** Milliseconds until nobody shall get the message any more; negative where that has passed. */
export function remainingMs({ message, receivedAt }: Delivered, nowMs: number): number {
  const { messageExpiryInterval } = message.properties ?? {}
  return messageExpiryInterval === undefined ? Infinity : receivedAt + messageExpiryInterval * 1000 - nowMs
}

/** The message with what is left of its expiry interval. */
function current(item: Delivered, nowMs: number): Message {
  const { message } = item
  const left = remainingMs(item, nowMs)
  if (left === Infinity) return message
  return {
    ...message,
    properties: { ...message.properties, messageExpiryInterval: Math.max(1, Math.ceil(left / 1000)) },
  }
}

function messageText(item: Delivered, { nowMs }: FormatOptions): string {
  return toJsonText(current(item, nowMs), false)
}

function rawBody(item: Delivered, nowMs: number): RequestBody {
  const message = current(item, nowMs)
  return {
    body: message.payload,
    headers: [
      'content-type',
      mediaType(message),
      'mqtt-topic',
      headerValue(message.topic),
      ...Object.entries(messageHeaders(message)).flat(),
      ...(message.retain ? ['mqtt-retain', 'true'] : []),
      ...(message.redelivered ? ['mqtt-redelivered', 'true'] : []),
      ...traceHeaders(message),
    ],
  }
}

/** CloudEvents 1.0 in its JSON format. A JSON payload is part of the text as it is, so numbers keep their digits. */
function cloudEvent({ message, id, receivedAt }: Delivered, { source }: FormatOptions): string {
  const { topic, properties, redelivered } = message
  const attributes = JSON.stringify({
    specversion: '1.0',
    id,
    source,
    type: 'causeway.mqtt.message',
    subject: topic,
    time: new Date(receivedAt).toISOString(),
    ...(redelivered && { redelivered }),
    ...extensions(properties),
  })
  return `${attributes.slice(0, -1)},${dataMembers(message)}}`
}

function dataMembers({ payload, properties }: Message): string {
  const given = properties?.contentType
  const typed = (type: string | undefined, member: string) =>
    type === undefined ? member : `"datacontenttype":${JSON.stringify(type)},${member}`
  const text = isUtf8(payload) ? payload.toString() : undefined
  const mayBeJson = given === undefined || JSON_TYPE.test(given)
  if (text !== undefined && mayBeJson && isJson(text)) return typed(given ?? 'application/json', `"data":${text}`)
  // Under a JSON type a string would be read as a JSON string.
  if (text !== undefined && (given === undefined || !mayBeJson)) {
    return typed(given ?? 'text/plain; charset=utf-8', `"data":${JSON.stringify(text)}`)
  }
  return typed(given ?? 'application/octet-stream', `"data_base64":"${payload.toString('base64')}"`)
}

/** User properties that can be attributes of a CloudEvent, such as `traceparent`. */
function extensions({ userProperties = {} }: MessageProperties = {}): Record<string, string> {
  return Object.fromEntries(
    Object.entries(userProperties).filter(
      (entry): entry is [string, string] =>
        typeof entry[1] === 'string' && /^[a-z0-9]{1,20}$/.test(entry[0]) && !RESERVED.includes(entry[0]),
    ),
  )
}

/** W3C trace context, which travels in user properties of the same names. */
function traceHeaders({ properties }: Message): string[] {
  const userProperties = properties?.userProperties
  if (userProperties === undefined) return NO_HEADERS
  return TRACE_HEADERS.flatMap((name) => {
    const value = userProperties[name]
    return typeof value === 'string' ? [name, headerValue(value)] : []
  })
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
