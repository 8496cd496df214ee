import type { IPublishPacket, Packet } from 'mqtt-packet'

/** The type of PUBLISH and its flags (MQTT 5 section 3.3.1). */
const PUBLISH = 0x30
const DUP = 0x08
const RETAIN = 0x01
/** Largest payload of a PUBLISH that is written here. Whether a larger packet is too large is left to mqtt-packet. */
const PLAIN_PAYLOAD_MAX = 1_048_576
/** The longest text in a packet, in bytes, and the largest packet identifier. */
const TWO_BYTES_MAX = 0xffff

/**
 * A PUBLISH without properties, as most are. It is written into the buffer at once: mqtt-packet makes a buffer for each
 * of its fields, which took half of the time of joining them.
 */
export class PlainPublish {
  readonly #protocolVersion: 5 | 4
  readonly #flags: number
  readonly #topic: string
  readonly #topicBytes: number
  /** Undefined at QoS 0. */
  readonly #messageId: number | undefined
  readonly #payload: Buffer
  readonly #remaining: number

  /** The packet, if it is one of these. */
  static of(packet: Packet, protocolVersion: 5 | 4): PlainPublish | undefined {
    if (packet.cmd !== 'publish' || packet.properties !== undefined) return undefined
    const { topic, payload, messageId = 0 } = packet
    if (!Buffer.isBuffer(payload) || payload.length > PLAIN_PAYLOAD_MAX || messageId > TWO_BYTES_MAX) return undefined
    const topicBytes = Buffer.byteLength(topic)
    if (topicBytes === 0 || topicBytes > TWO_BYTES_MAX) return undefined
    return new PlainPublish(packet, payload, topicBytes, protocolVersion)
  }

  private constructor(packet: IPublishPacket, payload: Buffer, topicBytes: number, protocolVersion: 5 | 4) {
    const { qos, retain, dup, topic, messageId } = packet
    this.#protocolVersion = protocolVersion
    this.#flags = PUBLISH | (dup ? DUP : 0) | (qos << 1) | (retain ? RETAIN : 0)
    this.#topic = topic
    this.#topicBytes = topicBytes
    this.#messageId = qos === 0 ? undefined : messageId
    this.#payload = payload
    const properties = protocolVersion === 5 ? 1 : 0
    this.#remaining = 2 + topicBytes + (qos === 0 ? 0 : 2) + properties + payload.length
  }

  get bytes(): number {
    let lengthBytes = 1
    for (let rest = this.#remaining >> 7; rest > 0; rest >>= 7) lengthBytes += 1
    return 1 + lengthBytes + this.#remaining
  }

  /** @returns the position behind it */
  write(bytes: Buffer, start: number): number {
    let at = start
    bytes[at++] = this.#flags
    let rest = this.#remaining
    for (; rest > 0x7f; rest >>= 7) bytes[at++] = (rest & 0x7f) | 0x80
    bytes[at++] = rest
    at = bytes.writeUInt16BE(this.#topicBytes, at)
    at += bytes.write(this.#topic, at)
    if (this.#messageId !== undefined) at = bytes.writeUInt16BE(this.#messageId, at)
    if (this.#protocolVersion === 5) bytes[at++] = 0
    return at + this.#payload.copy(bytes, at)
  }
}
