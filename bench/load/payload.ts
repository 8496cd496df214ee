/** A byte that occurs once in each event: counting it counts events, however they are split into chunks. */
export const MARK = '~'.charCodeAt(0)
const SEQUENCE_DIGITS = 10
const TIME_DIGITS = 16
const SIZE = 64
/** How many characters after the mark hold the sequence and the time of sending. */
export const STAMP_LENGTH = SEQUENCE_DIGITS + TIME_DIGITS

/** Microseconds on a clock that all processes of the machine share. Its zero is arbitrary. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

/** How many events begin in these bytes. */
export function countMarks(bytes: Buffer): number {
  let found = 0
  for (let at = bytes.indexOf(MARK); at >= 0; at = bytes.indexOf(MARK, at + 1)) found += 1
  return found
}

/** A payload of 64 bytes: the mark, the stamp, and dots. */
export function markedPayload(sequence: number): string {
  return `~${stamp(sequence)}`.padEnd(SIZE, '.')
}

/** The `STAMP_LENGTH` characters behind the mark: the message's sequence in its topic, from 0, and the time. */
export function stamp(sequence: number): string {
  return `${String(sequence).padStart(SEQUENCE_DIGITS, '0')}${String(now()).padStart(TIME_DIGITS, '0')}`
}

/** @param text a stamp */
export function readStamp(text: string): { sequence: number; sentAt: number } {
  return { sequence: Number(text.slice(0, SEQUENCE_DIGITS)), sentAt: Number(text.slice(SEQUENCE_DIGITS)) }
}
