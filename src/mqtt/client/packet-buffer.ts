import { type Packet, writeToStream } from 'mqtt-packet'

/** Joins the packets of one turn of the event loop into one buffer. Copying them costs less than a `writev`. */
export class PacketBuffer {
  readonly #protocolVersion: 5 | 4
  #parts: (Buffer | string)[] = []

  constructor(protocolVersion: 5 | 4) {
    this.#protocolVersion = protocolVersion
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0
  }

  add(packet: Packet): void {
    // `writeToStream` calls `write` for each field of the packet, and uses no other method of a stream than these two.
    writeToStream(packet, this as never, { protocolVersion: this.#protocolVersion })
  }

  /** Returns all packets added since the last call. */
  take(): Buffer {
    const parts = this.#parts
    this.#parts = []
    let length = 0
    for (const part of parts) length += typeof part === 'string' ? Buffer.byteLength(part) : part.length
    const bytes = Buffer.allocUnsafe(length)
    let at = 0
    for (const part of parts) at += typeof part === 'string' ? bytes.write(part, at) : part.copy(bytes, at)
    return bytes
  }

  write(part: Buffer | string): boolean {
    this.#parts.push(part)
    return true
  }

  destroy(error: Error): void {
    throw error
  }
}
