import { type Packet, writeToStream } from 'mqtt-packet'

/** Packets of one turn of the loop, to leave as one piece: a system call, and its gathering, costs more than a copy. */
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
    // It writes a packet field by field, and asks no more of a stream than this.
    writeToStream(packet, this as never, { protocolVersion: this.#protocolVersion })
  }

  /** All that was added since the last time. */
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
