/** Clients that split a stream into lines as Python's `splitlines` does also end a line at these three. */
const LINE_SEPARATORS = /[\u0085\u2028\u2029]/
const EACH_LINE_SEPARATOR = /[\u0085\u2028\u2029]/g

/**
 * The same JSON with U+0085, U+2028 and U+2029 as escapes. In valid JSON they can only be inside strings, where an
 * escape means the same.
 */
export function escapeLineSeparators(json: string): string {
  if (!LINE_SEPARATORS.test(json)) return json
  return json.replace(EACH_LINE_SEPARATOR, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
