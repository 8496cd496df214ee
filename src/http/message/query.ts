/**
 * In a query `+` means `+` (RFC 3986), not a space as in HTML forms: it is a wildcard here.
 * What is not percent-encoded UTF-8 becomes a lone surrogate, which no parameter may hold: replaced by U+FFFD, as
 * `URLSearchParams` does, it would name another topic than the caller's.
 */
export function parseQuery(query: string): Record<string, string | string[]> {
  const result: Record<string, string | string[]> = Object.create(null)
  for (const pair of query.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decode(equals < 0 ? pair : pair.slice(0, equals))
    const value = decode(equals < 0 ? '' : pair.slice(equals + 1))
    const earlier = result[name]
    result[name] = earlier === undefined ? value : [earlier, value].flat()
  }
  return result
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return `${text}\ud800`
  }
}
