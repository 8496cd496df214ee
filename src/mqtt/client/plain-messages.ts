import type { Message } from '../message.ts'

/** First byte of a PUBLISH at QoS 0, and its flag for a retained message (MQTT 5 section 3.3.1). */
const PUBLISH = 0x30
const RETAIN = 0x01
/** The only property of most messages (MQTT 5 section 3.3.2.3.8). */
const SUBSCRIPTION_IDENTIFIER = 0x0b
/** A byte of a variable byte integer: more follow, and the bits that it has of the number (MQTT 5 section 1.5.5). */
const MORE = 0x80
const BITS = 7
const LENGTH_BYTES_MAX = 4
/** Most bytes of a packet that is kept until the rest of it has come. A larger one is left to MQTT.js. */
const KEPT_MAX = 16_384
/**
 * Messages that are handed over at once. Readers of streams are written to, and their sockets say that they take more,
 * in the ticks between: their logs would run over if the thousands of messages of one chunk came without any.
 */
const MESSAGES_A_TICK = 100
const NOTHING = Buffer.alloc(0)
// What `#readOne` returns instead of a position.
const OTHER = -1
const INCOMPLETE = -2

/**
 * Reads messages at QoS 0 that have no properties but subscription identifiers, as nearly all of those are that come in
 * thousands a second. MQTT.js and its parser take a stream, an event and a tick for each packet, which was a third of
 * what such a message costs.
 */
export class PlainMessages {
  readonly #protocolVersion: 5 | 4
  readonly #maxPacketBytes: number
  readonly #handOver: (message: Message, identifiers: readonly number[]) => void
  /** What comes next: the beginning of a packet whose rest has not come, or whole ones for the next tick. */
  #kept: Buffer | undefined
  #hasMore = false

  /** @param maxPacketBytes a larger packet is left to MQTT.js */
  constructor(
    protocolVersion: 5 | 4,
    maxPacketBytes: number,
    handOver: (message: Message, identifiers: readonly number[]) => void,
  ) {
    this.#protocolVersion = protocolVersion
    this.#maxPacketBytes = maxPacketBytes
    this.#handOver = handOver
  }

  /** Whether it keeps some bytes, so that those which come next belong behind them. */
  get keepsBytes(): boolean {
    return this.#kept !== undefined
  }

  /** Whether more messages can be read without another chunk. To be done in the next tick, with `read()`. */
  get hasMore(): boolean {
    return this.#hasMore
  }

  /**
   * Hands over the messages at the beginning of what has come, at most so many as fit in a tick.
   *
   * @param chunk begins with a packet, or goes on with what it keeps
   * @returns the bytes from the first packet on that is none of these messages; undefined where there is none
   */
  read(chunk: Buffer = NOTHING): Buffer | undefined {
    const bytes = this.#kept === undefined ? chunk : Buffer.concat([this.#kept, chunk])
    this.#kept = undefined
    this.#hasMore = false
    let at = 0
    for (let count = 0; at < bytes.length; count += 1) {
      this.#hasMore = count === MESSAGES_A_TICK
      const end = this.#hasMore ? INCOMPLETE : this.#readOne(bytes, at)
      if (end === OTHER) return bytes.subarray(at)
      if (end === INCOMPLETE) {
        this.#kept = bytes.subarray(at)
        break
      }
      at = end
    }
    return undefined
  }

  /** Hands over the message at this position. Returns the position behind it. */
  #readOne(bytes: Buffer, start: number): number {
    const retain = bytes[start] === (PUBLISH | RETAIN)
    if (bytes[start] !== PUBLISH && !retain) return OTHER
    let at = start + 1
    let remaining = 0
    for (let shift = 0; ; shift += BITS) {
      if (shift === LENGTH_BYTES_MAX * BITS) return OTHER
      if (at === bytes.length) return INCOMPLETE
      const byte = bytes[at]!
      at += 1
      remaining |= (byte & (MORE - 1)) << shift
      if (byte < MORE) break
    }
    const end = at + remaining
    if (end - start > this.#maxPacketBytes) return OTHER
    if (end > bytes.length) return end - start > KEPT_MAX ? OTHER : INCOMPLETE
    const topicStart = at + 2
    if (topicStart > end) return OTHER
    const topicEnd = topicStart + bytes.readUInt16BE(at)
    let identifiers: readonly number[] = []
    at = topicEnd
    if (this.#protocolVersion === 5) {
      // A Property Length of two bytes is a sign of other properties.
      const propertiesEnd = at + 1 + bytes[at]!
      if (at >= end || bytes[at]! >= MORE || propertiesEnd > end) return OTHER
      const found = identifiersIn(bytes, at + 1, propertiesEnd)
      if (found === undefined) return OTHER
      identifiers = found
      at = propertiesEnd
    }
    // A topic alias stands for an empty topic, and only MQTT.js knows those.
    if (at > end || topicEnd === topicStart) return OTHER
    const topic = bytes.toString('utf8', topicStart, topicEnd)
    const payload = bytes.subarray(at, end)
    this.#handOver({ topic, payload, qos: 0, retain, properties: undefined }, identifiers)
    return end
  }
}

/** The subscription identifiers between these positions; undefined where there is anything else. */
function identifiersIn(bytes: Buffer, start: number, end: number): number[] | undefined {
  const identifiers: number[] = []
  for (let at = start; at < end;) {
    if (bytes[at] !== SUBSCRIPTION_IDENTIFIER) return undefined
    at += 1
    let identifier = 0
    for (let shift = 0; ; shift += BITS) {
      if (at === end || shift === LENGTH_BYTES_MAX * BITS) return undefined
      const byte = bytes[at]!
      at += 1
      identifier |= (byte & (MORE - 1)) << shift
      if (byte < MORE) break
    }
    if (identifier === 0) return undefined
    identifiers.push(identifier)
  }
  return identifiers
}
