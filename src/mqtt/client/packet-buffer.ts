import './silent-packets.ts'
import { type Packet, writeToStream } from 'mqtt-packet'
import { PlainPublish } from './plain-publish.ts'

// mqtt-packet would make a buffer for each number up to 65,535 with the first packet: 7 MB, and 30 ms of each start.
// Without them a packet takes 40 ns more.
writeToStream.cacheNumbers = false

/** First byte and Remaining Length of PUBACK and PUBREL (MQTT 5 sections 3.4 and 3.6). */
const PUBACK_HEADER = 0x40_02
const PUBREL_HEADER = 0x62_02
const SHORT_BYTES = 4
const UNWRITABLE = 'The packet has a value that MQTT cannot write'

/** Joins the packets of one turn of the event loop into one buffer. Copying them costs less than a `writev`. */
export class PacketBuffer {
  readonly #protocolVersion: 5 | 4
  /** A number is a whole packet of four bytes. */
  #parts: (Buffer | string | number | PlainPublish)[] = []

  constructor(protocolVersion: 5 | 4) {
    this.#protocolVersion = protocolVersion
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0
  }

  /** @throws if the packet cannot be written; then nothing of it is added */
  add(packet: Packet): void {
    const plain = PlainPublish.of(packet, this.#protocolVersion)
    if (plain !== undefined) return void this.#parts.push(plain)
    const before = this.#parts.length
    try {
      // `writeToStream` calls `write` for each field of the packet, and uses no other method of a stream but `destroy`.
      writeToStream(packet, this as never, { protocolVersion: this.#protocolVersion })
    } catch (error) {
      this.#parts.length = before
      // Buffer's, for a length or a number above 65,535.
      throw error instanceof RangeError ? new Error(UNWRITABLE, { cause: error }) : error
    }
  }

  /** Adds a PUBACK with the reason code 0, which need not be written. In MQTT 3.1.1 and 5 it has the same bytes. */
  addPuback(messageId: number): void {
    this.#parts.push((PUBACK_HEADER << 16) | messageId)
  }

  /** Adds a PUBREL with the reason code 0, in the same way. */
  addPubrel(messageId: number): void {
    this.#parts.push((PUBREL_HEADER << 16) | messageId)
  }

  /** Returns all packets added since the last call. */
  take(): Buffer {
    const parts = this.#parts
    this.#parts = []
    let length = 0
    for (const part of parts) {
      if (part instanceof PlainPublish) length += part.bytes
      else if (typeof part === 'number') length += SHORT_BYTES
      else length += typeof part === 'string' ? Buffer.byteLength(part) : part.length
    }
    const bytes = Buffer.allocUnsafe(length)
    let at = 0
    for (const part of parts) {
      if (part instanceof PlainPublish) at = part.write(bytes, at)
      else if (typeof part === 'number') at = bytes.writeUInt32BE(part, at)
      else at += typeof part === 'string' ? bytes.write(part, at) : part.copy(bytes, at)
    }
    return bytes
  }

  write(part: Buffer | string | undefined): boolean {
    // mqtt-packet has looked it up in a table that does not have it.
    if (part === undefined) throw new Error(UNWRITABLE)
    this.#parts.push(part)
    return true
  }

  destroy(error: Error): void {
    throw error
  }
}
