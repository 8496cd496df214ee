import { isUtf8 } from 'node:buffer'
import { CausewayError } from '../errors.ts'

export type QoS = 0 | 1 | 2
export type PayloadEncoding = 'utf8' | 'base64' | 'json'

/** MQTT 5 section 3.3.2.3, in JSON: `correlationData` in base64, `messageExpiryInterval` in seconds. */
export interface MessageProperties {
  contentType?: string
  responseTopic?: string
  correlationData?: string
  messageExpiryInterval?: number
  payloadFormatIndicator?: boolean
  userProperties?: Record<string, string | string[]>
}

/** A message as JSON carries it, the same in both directions. */
export interface JsonMessage {
  topic: string
  payload?: unknown
  encoding?: PayloadEncoding
  qos?: QoS
  retain?: boolean
  properties?: MessageProperties
}

/** A message as MQTT carries it. */
export interface Message {
  topic: string
  payload: Buffer
  qos: QoS
  retain: boolean
  properties?: MessageProperties | undefined
  /** Sent beside the properties over MQTT 5, and left out over 3.1.1: nobody asked for these expressly. */
  ambient?: MessageProperties | undefined
  /** Of a durable session: a reader may have had it. */
  redelivered?: boolean | undefined
}

/** From JSON that was validated against the message schema. QoS 1 unless said, so that success means the broker has it. */
export function fromJson({ topic, payload = '', encoding, qos = 1, retain = false, properties }: JsonMessage): Message {
  return { topic, payload: payloadBytes(payload, encoding), qos, retain, properties }
}

function payloadBytes(payload: unknown, encoding: PayloadEncoding | undefined): Buffer {
  if (encoding === 'json' || typeof payload !== 'string') return Buffer.from(jsonText(payload))
  return Buffer.from(payload, encoding === 'base64' ? 'base64' : 'utf8')
}

function jsonText(payload: unknown): string {
  try {
    return JSON.stringify(payload)
  } catch (cause) {
    // JSON.parse takes any depth; JSON.stringify calls itself for each level and runs out of stack.
    const detail = 'is nested too deeply; send it as a string or as a raw payload'
    throw new CausewayError('invalid-request', `body #/payload ${detail}`, {
      faults: [{ in: 'body', pointer: '#/payload', detail }],
      cause,
    })
  }
}

/**
 * The message as one line of JSON text: JSON escapes every CR and LF, so nothing a publisher sends can end it early.
 * With `embedJson` a payload that parses as JSON is embedded as the text it is, so that no number loses its digits
 * and no depth of nesting matters.
 */
export function toJsonText(
  { topic, payload, qos, retain, properties, redelivered }: Message,
  embedJson: boolean,
): string {
  const { json, encoding } = payloadText(payload, embedJson)
  const rest = JSON.stringify({
    encoding,
    qos,
    retain,
    ...(properties && { properties }),
    ...(redelivered && { redelivered }),
  })
  return `{"topic":${JSON.stringify(topic)},"payload":${json},${rest.slice(1)}`
}

function payloadText(payload: Buffer, embedJson: boolean): { json: string; encoding: PayloadEncoding } {
  if (!isUtf8(payload)) return { json: `"${payload.toString('base64')}"`, encoding: 'base64' }
  const text = payload.toString()
  // Outside its strings, where they are escaped, JSON has line breaks only as white space.
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
