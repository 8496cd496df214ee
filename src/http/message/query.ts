/**
 * Parses a query string. `+` stays `+` (RFC 3986) and does not become a space as in HTML forms: it is an MQTT wildcard.
 * A value that is not percent-encoded UTF-8 gets a lone surrogate, which validation refuses in every parameter.
 * Replaced by U+FFFD, as `URLSearchParams` does, it could silently name another topic.
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
