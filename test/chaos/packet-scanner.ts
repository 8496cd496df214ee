/** MQTT packet types by their number in the fixed header (MQTT 5, table 2-1). */
const TYPES = [
  'reserved',
  'connect',
  'connack',
  'publish',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  'subscribe',
  'suback',
  'unsubscribe',
  'unsuback',
  'pingreq',
  'pingresp',
  'disconnect',
  'auth',
] as const

export interface PacketHead {
  type: (typeof TYPES)[number]
  /** Of a PUBLISH; 0 for all others. */
  qos: number
}

/** A piece of one packet. `head` is set on its first piece. */
export interface Piece {
  bytes: Buffer
  head?: PacketHead
}

/** Cuts a byte stream at the boundaries of MQTT packets. A long packet comes in pieces, as its bytes arrive. */
export class PacketScanner {
  /** Bytes of the current packet that have not come yet. */
  #missing = 0
  /** An incomplete fixed header. */
  #begun = Buffer.alloc(0)

  scan(chunk: Buffer): Piece[] {
    const pieces: Piece[] = []
    let rest = this.#begun.length === 0 ? chunk : Buffer.concat([this.#begun, chunk])
    this.#begun = Buffer.alloc(0)
    while (rest.length > 0) {
      if (this.#missing > 0) {
        const bytes = rest.subarray(0, this.#missing)
        this.#missing -= bytes.length
        rest = rest.subarray(bytes.length)
        pieces.push({ bytes })
        continue
      }
      const header = fixedHeader(rest)
      if (header === undefined) {
        this.#begun = Buffer.from(rest)
        break
      }
      const bytes = rest.subarray(0, header.length)
      this.#missing = header.length - bytes.length
      rest = rest.subarray(bytes.length)
      pieces.push({ bytes, head: header.head })
    }
    return pieces
  }
}

/** `length` is that of the whole packet. Undefined where the fixed header is not complete. */
function fixedHeader(bytes: Buffer): { head: PacketHead; length: number } | undefined {
  let remaining = 0
  for (let index = 1; index <= 4; index += 1) {
    const byte = bytes[index]
    if (byte === undefined) return undefined
    remaining += (byte & 0x7f) << (7 * (index - 1))
    if (byte >= 0x80) continue
    const type = TYPES[bytes[0]! >> 4]!
    const qos = type === 'publish' ? (bytes[0]! >> 1) & 3 : 0
    return { head: { type, qos }, length: 1 + index + remaining }
  }
  throw new Error('not MQTT: a remaining length of more than four bytes')
}
