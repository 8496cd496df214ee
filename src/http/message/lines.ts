import type { Held } from '../../memory/account.ts'

/** One line of a body, without its line break. `noRoom`: there was no memory for it. */
export type Line = { text: Buffer } | { tooLong: true } | { noRoom: true }

const LF = 0x0a
const CR = 0x0d
/** Most lines that are yielded together. One chunk may have tens of thousands. */
const LINES_MAX = 256
const FIRST_BYTES = 4096

/**
 * Splits chunks into lines at LF or CRLF, and yields lines that end in one chunk together. A line longer than
 * `maxBytes` is not kept and comes as `tooLong`. The last line needs no line break. The next chunk is read only after
 * the lines of the one before were taken.
 * @param held holds the beginning of a line until its end has come
 */
export async function* lines(chunks: AsyncIterable<Buffer>, maxBytes: number, held: Held): AsyncGenerator<Line[]> {
  // The beginning is copied into one buffer, because each chunk is an object: many chunks of one byte take much memory.
  let buffer = Buffer.alloc(0)
  /** Of the line so far, whether it is in the buffer or not. */
  let length = 0
  let hasRoom = true
  const add = (part: Buffer) => {
    const start = length
    length += part.length
    // One byte more, as the last byte may be the CR of a line that just fits.
    if (!hasRoom || length > maxBytes + 1) return clear()
    if (length > buffer.length) {
      const size = Math.max(length, Math.min(Math.max(FIRST_BYTES, buffer.length * 2), maxBytes + 1))
      hasRoom = held.grow(size - buffer.length)
      if (!hasRoom) return clear()
      const larger = Buffer.allocUnsafeSlow(size)
      buffer.copy(larger, 0, 0, start)
      buffer = larger
    }
    part.copy(buffer, start)
  }
  const clear = () => {
    held.shrink(buffer.length)
    buffer = Buffer.alloc(0)
  }
  const lineOf = (text: Buffer): Line => {
    const line = text.at(-1) === CR ? text.subarray(0, -1) : text
    return line.length > maxBytes ? { tooLong: true } : { text: line }
  }
  const endLine = (): Line => {
    const line: Line = !hasRoom
      ? { noRoom: true }
      : length > maxBytes + 1
        ? { tooLong: true }
        : lineOf(buffer.subarray(0, length))
    clear()
    length = 0
    hasRoom = true
    return line
  }
  for await (const chunk of chunks) {
    let ended: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      const part = chunk.subarray(start, end)
      start = end + 1
      if (length === 0) ended.push(lineOf(part))
      else {
        add(part)
        ended.push(endLine())
      }
      if (ended.length < LINES_MAX) continue
      yield ended
      ended = []
    }
    if (start < chunk.length) add(chunk.subarray(start))
    if (ended.length > 0) yield ended
  }
  if (length > 0) yield [endLine()]
}
