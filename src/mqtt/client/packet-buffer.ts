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

  /** @throws if the packet cannot be written; then nothing of it is added */
  add(packet: Packet): void {
    const before = this.#parts.length
    try {
      // `writeToStream` calls `write` for each field of the packet, and uses no other method of a stream but `destroy`.
      writeToStream(packet, this as never, { protocolVersion: this.#protocolVersion })
    } catch (error) {
      this.#parts.length = before
      throw error
    }
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

  write(part: Buffer | string | undefined): boolean {
    // What mqtt-packet looks up in a table, such as a number above 65,535.
    if (part === undefined) throw new Error('The packet has a value that MQTT cannot write')
    this.#parts.push(part)
    return true
  }

  destroy(error: Error): void {
    throw error
  }
}
