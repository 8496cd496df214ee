import type { Held } from '../../memory/account.ts'
import { GrowingBuffer } from '../../memory/growing-buffer.ts'

/** One line of a body, without its line break. */
export type Line = { text: Buffer } | { tooLong: true }

const LF = 0x0a
const CR = 0x0d
/** Most lines that are yielded together. One chunk may have tens of thousands. */
const LINES_MAX = 256

/**
 * Splits chunks into lines at LF or CRLF, and yields the lines that end in one chunk together. A line longer than
 * `maxBytes` is not kept and comes as `tooLong`. The last line needs no line break. The next chunk is read only after
 * the lines of the one before were taken.
 *
 * @param held gets the bytes of a line that has not ended
 * @param onNoRoom called where there is no room for them; nothing is yielded afterwards
 */
export async function* lines(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
  held: Held,
  onNoRoom: () => void,
): AsyncGenerator<Line[]> {
  const begun = new GrowingBuffer(held, maxBytes + 1)
  /** Of the line that has not ended, also where it is too long to be kept. */
  let length = 0
  /** @returns false where there is no room */
  const begin = (part: Buffer): boolean => {
    length += part.length
    // One byte more, as the last byte may be the CR of a line that just fits.
    if (length <= maxBytes + 1) return begun.append(part)
    begun.clear()
    return true
  }
  const endLine = (text: Buffer): Line => {
    const line = text.at(-1) === CR ? text.subarray(0, -1) : text
    const tooLong = length > maxBytes + 1 || line.length > maxBytes
    length = 0
    return tooLong ? { tooLong } : { text: line }
  }
  for await (const chunk of chunks) {
    let ended: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      const part = chunk.subarray(start, end)
      start = end + 1
      if (length === 0) {
        length = part.length
        ended.push(endLine(part))
      } else if (begin(part)) ended.push(endLine(begun.take()))
      else return onNoRoom()
      if (ended.length === LINES_MAX) {
        yield ended
        ended = []
      }
    }
    if (start < chunk.length && !begin(chunk.subarray(start))) return onNoRoom()
    if (ended.length > 0) yield ended
  }
  if (length > 0) yield [endLine(begun.take())]
}
