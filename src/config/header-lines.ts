import { validateHeaderName, validateHeaderValue } from 'node:http'

/**
 * The headers of lines like `Name: value`. Errors contain the line's number and the header's name only: the value may
 * be a secret.
 * @param forbidden names that may not be set, with the reason
 * @throws Error that says which line is wrong
 */
export function parseHeaderLines(text: string, forbidden: { names: RegExp; why: string }): Record<string, string> {
  const headers = new Map<string, string>()
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue
    const [, header, value] = /^([^:\s]+):(.*)$/.exec(line) ?? []
    try {
      validateHeaderName(header!)
      validateHeaderValue(header!, value!.trim())
    } catch (error) {
      throw new Error(`expected a header as Name: value in line ${index + 1}, got none`, { cause: error })
    }
    if (forbidden.names.test(header!)) {
      throw new Error(`expected no header ${forbidden.why}, got ${header} in line ${index + 1}`)
    }
    headers.set(header!, value!.trim())
  }
  return Object.fromEntries(headers)
}
