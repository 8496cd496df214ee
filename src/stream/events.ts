import { toJson } from '../json-text.ts'
import type { Format } from './formats/format.ts'

/**
 * Every event of a stream, by name, with its data. A new event is a new line here, and its row in
 * docs/subscribing.md; each format can write it already.
 */
export interface EventData {
  /** A message. The JSON text is made by an `Encoder`: parsed and written again, embedded JSON could change. */
  message: JsonText
  gap: GapData
  status: StatusData
  /** First event of a durable session's stream. */
  session: SessionData
}

export type EventName = keyof EventData

/** A text that is valid JSON. */
export type JsonText = string

/** Messages may be missing before this event. */
export interface GapData {
  reason: GapReason
  /** How many, where that is known. */
  dropped?: number
  /** What the broker said, where it refused a filter. */
  detail?: string
}

export const GAP_REASONS = [
  /** The reader asked to continue after an event that this process does not know, or no longer. */
  'unknown-id',
  /** The log was full, and overwrote messages before the reader took them. */
  'overrun',
  /** The broker lost the MQTT session, and with it what it kept while the connection was lost. */
  'broker-session-lost',
  /** The connection to the broker was lost, and the broker does not keep all messages of these filters. */
  'broker-connection-lost',
  /** A message was too large to be written as an event, or to be kept for the readers. */
  'message-too-large',
  /**
   * About as many messages waited at the broker as it keeps at most: while the connection was lost, or for a durable
   * session also while its reader was away or slow. It may have dropped more.
   */
  'broker-queue',
  /** Some retained messages to begin with could not be read, or not be told from live ones. */
  'retained-unknown',
  /** The broker refuses a filter that it granted before. The stream ends. */
  'subscription-refused',
] as const

export type GapReason = (typeof GAP_REASONS)[number]

/**
 * The connection to the broker, at the beginning of a stream and whenever it changes; or what ends the stream: the
 * session's owner or the caller's credentials changed.
 */
export type StatusData =
  /** `qos`: the highest QoS at which the broker delivers, where it granted less than the stream asked for. */
  | { broker: 'connected' | 'disconnected'; qos?: 0 | 1 | 2 }
  /** The stream ends. */
  | { session: 'taken-over' | 'deleted' }
  /** The stream ends. */
  | { credentials: 'expired' | 'revoked' }

export interface SessionData {
  id: string
  name: string
  /** Whether the broker had the session already. */
  present: boolean
  /** Messages that may be with the reader unacknowledged. */
  unacknowledgedLimit: number
  ack: AckMode
  /** Seconds for which the broker keeps the session without a reader, where it said so. */
  expiry?: number
  /**
   * With `ack=auto`: the session existed, and this process cannot tell whether an earlier reader got all that was
   * acknowledged for it. A `gap` follows.
   */
  unknown?: true
}

/**
 * When a message of a session is acknowledged: once it has left for the reader's socket, or once the reader says so.
 */
export type AckMode = 'auto' | 'explicit'

/** Why a stream ended. */
export const CLOSE_REASONS = [
  'client',
  'deleted',
  'expired',
  /** An unexpected error. */
  'failed',
  /** What its client has not read takes memory that the caller may not hold. */
  'memory',
  'refused',
  'replaced',
  'revoked',
  'shutdown',
  'slow',
  'stalled',
  'taken-over',
] as const

export type CloseReason = (typeof CLOSE_REASONS)[number]

/** What streams know of a message. */
export interface StreamMessage {
  topic: string
  payload: Buffer
  qos: 0 | 1 | 2
  /** `messageExpiryInterval`: seconds from its arrival until nobody shall get it any more. */
  properties?: { messageExpiryInterval?: number; userProperties?: Record<string, string | string[]> } | undefined
}

/** How one stream's messages are written. */
export interface Encoder<Message> {
  /** Channels whose encoders have the same name share the bytes of each message. */
  name: string
  format: Format
  /** @throws where the text would be too long */
  messageData(message: Message): JsonText
  /** The bytes of a message's event, with so many seconds left until it expires. */
  withExpiry(event: Buffer, seconds: number): Buffer
}

/** One event as bytes. An event without an id cannot be continued from. */
export function encodeEvent<Name extends EventName>(
  format: Format,
  name: Name,
  id: string | undefined,
  data: EventData[Name],
): Buffer {
  return format.event(name, id, typeof data === 'string' ? data : toJson(data))
}

/**
 * A message as an event; undefined where that fails, as the text would have more than 536 million characters. To be
 * announced with the gap `message-too-large` then.
 */
export function encodeMessage<Message>(
  { format, messageData }: Encoder<Message>,
  id: string | undefined,
  message: Message,
): Buffer | undefined {
  try {
    return encodeEvent(format, 'message', id, messageData(message))
  } catch {
    return undefined
  }
}
