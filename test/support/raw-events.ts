/** Blocks that dispatch no event: comments, `retry`, and the first `id`. */
const SILENT = /^(:.*|retry: \d+|id: [0-9a-z]+-\d+)$/

/**
 * The field names of each event in this text. It splits as the standard says, and uses no library, which might accept
 * what the standard does not.
 */
export function rawEvents(text: string): string[][] {
  const blocks = text.split(/(?:\r\n|\r|\n){2}/).filter((block) => block !== '' && !SILENT.test(block))
  return blocks.map((block) => block.split(/\r\n|\r|\n/).map((line) => line.split(':', 1)[0]!))
}
