/** Clients that split a stream into lines as Python's `splitlines` does also end a line at these three. */
const LINE_SEPARATORS = ['\u0085', '\u2028', '\u2029']
const EACH_LINE_SEPARATOR = /[\u0085\u2028\u2029]/g

/**
 * The same JSON with U+0085, U+2028 and U+2029 as escapes. In valid JSON they can only be inside strings, where an
 * escape means the same.
 */
export function escapeLineSeparators(json: string): string {
  // To look for each is faster than a regular expression: of a long text a tenth of the time.
  if (!LINE_SEPARATORS.some((separator) => json.includes(separator))) return json
  return json.replace(EACH_LINE_SEPARATOR, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** JSON.stringify, without the three line separators. */
export function toJson(value: unknown): string {
  return escapeLineSeparators(JSON.stringify(value))
}

const SPACE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c
const TILDE = 0x7e

/** As `toJson`. For short texts of ASCII characters it takes a fifth of the time. */
export function stringToJson(text: string): string {
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code < SPACE || code > TILDE || code === QUOTE || code === BACKSLASH) return toJson(text)
  }
  return `"${text}"`
}
