import type { Message } from '../message.ts'

/** First byte of a PUBLISH at QoS 0, and its flag for a retained message (MQTT 5 section 3.3.1). */
const PUBLISH = 0x30
const RETAIN = 0x01
/** The only property of most messages (MQTT 5 section 3.3.2.3.8). */
const SUBSCRIPTION_IDENTIFIER = 0x0b
/** A byte of a variable byte integer says whether more follow, and has so many bits of the number. */
const MORE = 0x80
const BITS = 7
const NUMBER_BYTES_MAX = 4
/** Most bytes of a packet that is kept until the rest of it has come. A larger one is left to MQTT.js. */
const KEPT_MAX = 16_384
/**
 * Messages that are handed over at once. Readers of streams are written to, and their sockets say that they take more,
 * in the ticks between: their logs would run over if the thousands of messages of one chunk came without any.
 */
const MESSAGES_A_TICK = 100
const NOTHING = Buffer.alloc(0)
const NO_IDENTIFIERS: readonly number[] = []
// What is returned instead of a position or a number.
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
  /** Position in the packet that is read. */
  #at = 0

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
    this.#at = start + 1
    const remaining = this.#readNumber(bytes, bytes.length)
    if (remaining < 0) return remaining
    const end = this.#at + remaining
    if (end - start > this.#maxPacketBytes) return OTHER
    if (end > bytes.length) return end - start > KEPT_MAX ? OTHER : INCOMPLETE
    const topicStart = this.#at + 2
    if (topicStart > end) return OTHER
    const topicEnd = topicStart + bytes.readUInt16BE(this.#at)
    this.#at = topicEnd
    const identifiers = this.#protocolVersion === 5 ? this.#readProperties(bytes, end) : NO_IDENTIFIERS
    // A topic alias stands for an empty topic, and only MQTT.js knows those.
    if (identifiers === undefined || this.#at > end || topicEnd === topicStart) return OTHER
    const topic = bytes.toString('utf8', topicStart, topicEnd)
    const payload = bytes.subarray(this.#at, end)
    this.#handOver({ topic, payload, qos: 0, retain, properties: undefined }, identifiers)
    return end
  }

  /** The subscription identifiers; undefined where there is any other property. */
  #readProperties(bytes: Buffer, packetEnd: number): readonly number[] | undefined {
    // A Property Length of two bytes is a sign of other properties.
    if (this.#at >= packetEnd || bytes[this.#at]! >= MORE) return undefined
    const end = this.#at + 1 + bytes[this.#at]!
    if (end > packetEnd) return undefined
    const identifiers: number[] = []
    for (this.#at += 1; this.#at < end;) {
      if (bytes[this.#at] !== SUBSCRIPTION_IDENTIFIER) return undefined
      this.#at += 1
      const identifier = this.#readNumber(bytes, end)
      if (identifier <= 0) return undefined
      identifiers.push(identifier)
    }
    return identifiers
  }

  /** A variable byte integer (MQTT 5 section 1.5.5); `INCOMPLETE` where it goes on behind `end`. */
  #readNumber(bytes: Buffer, end: number): number {
    let number = 0
    for (let shift = 0; shift < NUMBER_BYTES_MAX * BITS; shift += BITS) {
      if (this.#at === end) return INCOMPLETE
      const byte = bytes[this.#at]!
      this.#at += 1
      number |= (byte & (MORE - 1)) << shift
      if (byte < MORE) return number
    }
    return OTHER
  }
}
