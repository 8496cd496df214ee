/** One line of a body, without its line break. */
export type Line = { text: Buffer } | { tooLong: true }

const LF = 0x0a
const CR = 0x0d

/**
 * Splits chunks into lines at LF or CRLF, and yields the lines that end in one chunk together. A line longer than
 * `maxBytes` is not kept and comes as `tooLong`. The last line needs no line break. The next chunk is read only after
 * the lines of the one before were taken.
 */
export async function* lines(chunks: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Line[]> {
  let parts: Buffer[] = []
  let length = 0
  const add = (part: Buffer) => {
    length += part.length
    // One byte more, as the last byte may be the CR of a line that just fits.
    if (length <= maxBytes + 1) parts.push(part)
    else parts = []
  }
  const endLine = (): Line => {
    const text = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
    const line = text.at(-1) === CR ? text.subarray(0, -1) : text
    const tooLong = length > maxBytes + 1 || line.length > maxBytes
    parts = []
    length = 0
    return tooLong ? { tooLong } : { text: line }
  }
  for await (const chunk of chunks) {
    const ended: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      add(chunk.subarray(start, end))
      start = end + 1
      ended.push(endLine())
    }
    if (start < chunk.length) add(chunk.subarray(start))
    if (ended.length > 0) yield ended
  }
  if (length > 0) yield [endLine()]
}
