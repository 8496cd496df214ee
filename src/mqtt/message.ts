import { isUtf8 } from 'node:buffer'
import { CausewayError } from '../errors.ts'
import { escapeLineSeparators, stringToJson } from '../json-text.ts'

export type QoS = 0 | 1 | 2
export type PayloadEncoding = 'utf8' | 'base64' | 'json'

/** MQTT 5 section 3.3.2.3 in JSON: `correlationData` is base64, `messageExpiryInterval` is in seconds. */
export interface MessageProperties {
  contentType?: string
  responseTopic?: string
  correlationData?: string
  messageExpiryInterval?: number
  payloadFormatIndicator?: boolean
  userProperties?: Record<string, string | string[]>
}

/** A message in JSON; the same for publishes and for events. */
export interface JsonMessage {
  topic: string
  payload?: unknown
  encoding?: PayloadEncoding
  qos?: QoS
  retain?: boolean
  properties?: MessageProperties
}

/** A message as MQTT transports it. */
export interface Message {
  topic: string
  payload: Buffer
  qos: QoS
  retain: boolean
  properties?: MessageProperties | undefined
  /**
   * Properties that the caller did not set expressly. They are sent together with `properties` over MQTT 5 and left out
   * over 3.1.1, where an expressly set property is an error.
   */
  ambient?: MessageProperties | undefined
  /** The broker sent it again: a reader may already have had it. */
  redelivered?: boolean | undefined
  /** With which it came from the broker, where it has to be acknowledged. */
  messageId?: number | undefined
}

/** Roughly what a message object, its buffer and its string headers take in memory, in bytes. */
const MESSAGE_OVERHEAD = 256
/** The same for one property value. */
const PROPERTY_OVERHEAD = 64

/** Bytes that a message holds in memory: payload, topic and properties, two bytes for each character. */
export function sizeOf({ topic, payload, properties, ambient }: Message): number {
  return MESSAGE_OVERHEAD + payload.length + 2 * topic.length + sizeOfProperties(properties) + sizeOfProperties(ambient)
}

/** The part of `sizeOf` that is properties. */
export function sizeOfProperties(properties: MessageProperties | undefined): number {
  if (properties === undefined) return 0
  const { contentType, responseTopic, correlationData, userProperties } = properties
  let bytes = PROPERTY_OVERHEAD
  for (const text of [contentType, responseTopic, correlationData]) {
    if (text !== undefined) bytes += PROPERTY_OVERHEAD + 2 * text.length
  }
  for (const name in userProperties) {
    const value = userProperties[name]!
    bytes += PROPERTY_OVERHEAD + 2 * name.length
    if (typeof value === 'string') bytes += 2 * value.length
    else for (const text of value) bytes += PROPERTY_OVERHEAD + 2 * text.length
  }
  return bytes
}

/**
 * From JSON that was validated against the message schema. The default is QoS 1, so that success means that the broker
 * has the message.
 * @param source the text of the payload in JSON. A payload that is sent as JSON is sent as this text, byte for byte:
 *   parsed and written again, it would lose digits and spaces
 */
export function fromJson(
  { topic, payload = '', encoding, qos = 1, retain = false, properties }: JsonMessage,
  source?: string,
): Message {
  return { topic, payload: payloadBytes(payload, encoding, source), qos, retain, properties }
}

function payloadBytes(payload: unknown, encoding: PayloadEncoding | undefined, source: string | undefined): Buffer {
  if (encoding === 'json' || typeof payload !== 'string') return Buffer.from(source ?? jsonText(payload))
  return Buffer.from(payload, encoding === 'base64' ? 'base64' : 'utf8')
}

function jsonText(payload: unknown): string {
  try {
    return JSON.stringify(payload)
  } catch (cause) {
    // JSON.parse accepts any depth, but JSON.stringify is recursive: a deeply nested value overflows the stack.
    const detail = 'is nested too deeply; send it as a string or as a raw payload'
    throw new CausewayError('invalid-request', `body #/payload ${detail}`, {
      faults: [{ in: 'body', pointer: '#/payload', detail }],
      cause,
    })
  }
}

/**
 * The message as one line of JSON text. JSON escapes CR and LF, so nothing that a publisher sends can end the line.
 * With `embedJson`, a payload that is valid JSON becomes part of the text as it is; only line breaks in it become
 * spaces or escapes. So numbers keep all their digits, and deeply nested values do not overflow the stack.
 * @throws RangeError, or an error with the code `ERR_STRING_TOO_LONG`, where the text would have more than 536 million
 *   characters: 90 MB of control characters are enough
 */
export function toJsonText(
  { topic, payload, qos, retain, properties, redelivered }: Message,
  embedJson: boolean,
): string {
  const { json, encoding } = payloadText(payload, embedJson)
  let rest = `"encoding":"${encoding}","qos":${qos},"retain":${retain}}`
  if (properties !== undefined || redelivered) {
    const more = JSON.stringify({ ...(properties && { properties }), ...(redelivered && { redelivered }) })
    rest = `${rest.slice(0, -1)},${more.slice(1)}`
  }
  return escapeLineSeparators(`{"topic":${stringToJson(topic)},"payload":${json},${rest}`)
}

const EXPIRY = '"messageExpiryInterval":'
const DIGIT_0 = 0x30
const DIGIT_9 = 0x39

/**
 * Bytes of an event made of `toJsonText`, with another message expiry interval.
 * @param seconds what is left of the interval
 */
export function withExpiry(event: Buffer, seconds: number): Buffer {
  // The properties follow the payload, and no text of a publisher contains the name in quotes that are not escaped.
  // Only a user property can have that name: its value is a string or an array, never a number.
  for (let at = event.lastIndexOf(EXPIRY); at > 0; at = event.lastIndexOf(EXPIRY, at - 1)) {
    const start = at + EXPIRY.length
    let end = start
    while (event[end]! >= DIGIT_0 && event[end]! <= DIGIT_9) end += 1
    if (end > start) return Buffer.concat([event.subarray(0, start), Buffer.from(`${seconds}`), event.subarray(end)])
  }
  return event
}

function payloadText(payload: Buffer, embedJson: boolean): { json: string; encoding: PayloadEncoding } {
  if (!isUtf8(payload)) return { json: `"${payload.toString('base64')}"`, encoding: 'base64' }
  const text = payload.toString()
  // In strings JSON escapes line breaks, so a line break in valid JSON is white space and can be replaced.
  if (embedJson && isJson(text)) return { json: text.replace(/[\r\n]/g, ' '), encoding: 'json' }
  return { json: JSON.stringify(text), encoding: 'utf8' }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
