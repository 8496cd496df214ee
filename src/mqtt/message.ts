import { isUtf8 } from 'node:buffer'

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
}

/** From JSON that was validated against the message schema. QoS 1 unless said, so that success means the broker has it. */
export function fromJson({ topic, payload = '', encoding, qos = 1, retain = false, properties }: JsonMessage): Message {
  return { topic, payload: payloadBytes(payload, encoding), qos, retain, properties }
}

function payloadBytes(payload: unknown, encoding: PayloadEncoding | undefined): Buffer {
  if (encoding === 'json' || typeof payload !== 'string') return Buffer.from(JSON.stringify(payload))
  return Buffer.from(payload, encoding === 'base64' ? 'base64' : 'utf8')
}

/**
 * The message as one line of JSON text: JSON escapes every CR and LF, so nothing a publisher sends can end it early.
 * With `embedJson` a payload that parses as JSON is embedded as such.
 */
export function toJsonText({ topic, payload, qos, retain, properties }: Message, embedJson: boolean): string {
  return JSON.stringify({ topic, ...textPayload(payload, embedJson), qos, retain, ...(properties && { properties }) })
}

function textPayload(payload: Buffer, embedJson: boolean): { payload: unknown; encoding: PayloadEncoding } {
  if (!isUtf8(payload)) return { payload: payload.toString('base64'), encoding: 'base64' }
  const text = payload.toString()
  if (embedJson) {
    try {
      return { payload: JSON.parse(text), encoding: 'json' }
    } catch {
      // Not JSON, so it stays the text it is.
    }
  }
  return { payload: text, encoding: 'utf8' }
}
