import type { Acknowledgement } from './packets.ts'

/** First bytes of the packets that acknowledge a PUBLISH (MQTT 5 sections 3.4, 3.5 and 3.7). */
const NAMES: Record<number, Acknowledgement['cmd'] | undefined> = { 0x40: 'puback', 0x50: 'pubrec', 0x70: 'pubcomp' }
const HEADER_BYTES = 2
const IDENTIFIER_BYTES = 2
/** Packet identifier, reason code, and a Property Length of 0. The last two may be left out. */
const REMAINING_LENGTH_MAX = 4

/** Whether a chunk is nothing but whole acknowledgements without properties, as nearly all of them are. */
export function isAcknowledgements(chunk: Uint8Array): boolean {
  let at = 0
  while (at < chunk.length) {
    const remaining = chunk[at + 1]!
    if (NAMES[chunk[at]!] === undefined) return false
    if (!(remaining >= IDENTIFIER_BYTES && remaining <= REMAINING_LENGTH_MAX)) return false
    if (remaining === REMAINING_LENGTH_MAX && chunk[at + HEADER_BYTES + REMAINING_LENGTH_MAX - 1] !== 0) return false
    at += HEADER_BYTES + remaining
  }
  return at === chunk.length
}

/** Calls `each` with those of a chunk for which `isAcknowledgements` is true. */
export function forEachAcknowledgement(chunk: Buffer, each: (packet: Acknowledgement) => void): void {
  let at = 0
  while (at < chunk.length) {
    const remaining = chunk[at + 1]!
    const messageId = chunk.readUInt16BE(at + HEADER_BYTES)
    const reasonCode = remaining > IDENTIFIER_BYTES ? chunk[at + HEADER_BYTES + IDENTIFIER_BYTES]! : 0
    each({ cmd: NAMES[chunk[at]!]!, messageId, reasonCode })
    at += HEADER_BYTES + remaining
  }
}
