/** Occurs once in each event, so that counting it counts events however they are cut into chunks. */
export const MARK = '~'.charCodeAt(0)
const SEQUENCE_DIGITS = 10
const TIME_DIGITS = 16
const SIZE = 64
/** Characters behind the mark that say which message it is and when it was sent. */
export const STAMP_LENGTH = SEQUENCE_DIGITS + TIME_DIGITS

/** Microseconds on a clock that all processes of the machine share. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

/** 64 bytes that carry a message's place in its topic, from 0, and the time. */
export function markedPayload(sequence: number): string {
  return `~${String(sequence).padStart(SEQUENCE_DIGITS, '0')}${String(now()).padStart(TIME_DIGITS, '0')}`.padEnd(
    SIZE,
    '.',
  )
}

/** @param stamp what follows the mark */
export function readStamp(stamp: string): { sequence: number; sentAt: number } {
  return { sequence: Number(stamp.slice(0, SEQUENCE_DIGITS)), sentAt: Number(stamp.slice(SEQUENCE_DIGITS)) }
}
