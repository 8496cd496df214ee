/** Lines that belong to no event: comments and `retry`. */
const SILENT = /^(:.*|retry: \d+)$/

/**
 * The field names of each event in this text, without the first one, the `status` that every stream begins with. It
 * splits as the standard says, and uses no library, which might accept what the standard does not.
 */
export function rawEvents(text: string): string[][] {
  const blocks = text.split(/(?:\r\n|\r|\n){2}/).map((block) => block.split(/\r\n|\r|\n/))
  const events = blocks.map((lines) => lines.filter((line) => line !== '' && !SILENT.test(line)))
  return events
    .filter((lines) => lines.length > 0)
    .slice(1)
    .map((lines) => lines.map((line) => line.split(':', 1)[0]!))
}
