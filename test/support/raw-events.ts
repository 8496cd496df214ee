/** Blocks that dispatch nothing: comments, `retry`, and an id to begin with. */
const SILENT = /^(:.*|retry: \d+|id: [0-9a-z]+-\d+)$/

/** The field names of each event in these bytes, taken apart as the standard says and by no parser that might forgive. */
export function rawEvents(text: string): string[][] {
  const blocks = text.split(/(?:\r\n|\r|\n){2}/).filter((block) => block !== '' && !SILENT.test(block))
  return blocks.map((block) => block.split(/\r\n|\r|\n/).map((line) => line.split(':', 1)[0]!))
}
