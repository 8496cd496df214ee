type Query = Record<string, string | string[]>

/** The result for a query with too many parameters. The parser must not throw: no route is chosen at that time. */
export const TOO_MANY_PARAMETERS: Query = Object.freeze(Object.create(null) as Query)

/**
 * Makes the parser of query strings. `+` stays `+` (RFC 3986) and does not become a space as in HTML forms: it is an
 * MQTT wildcard. A value that is not percent-encoded UTF-8 gets a lone surrogate, which validation refuses in every
 * parameter. Replaced by U+FFFD, as `URLSearchParams` does, it could silently name another topic.
 *
 * @param parametersMax a query with more is not parsed: the result is `TOO_MANY_PARAMETERS`
 */
export function createQueryParser(parametersMax: number): (query: string) => Query {
  return (query) => {
    const result = Object.create(null) as Query
    let count = 0
    for (let start = 0; start < query.length;) {
      const ampersand = query.indexOf('&', start)
      const end = ampersand < 0 ? query.length : ampersand
      if (end > start) {
        count += 1
        if (count > parametersMax) return TOO_MANY_PARAMETERS
        addPair(result, query.slice(start, end))
      }
      start = end + 1
    }
    return result
  }
}

function addPair(result: Query, pair: string): void {
  const equals = pair.indexOf('=')
  const name = decode(equals < 0 ? pair : pair.slice(0, equals))
  const value = decode(equals < 0 ? '' : pair.slice(equals + 1))
  const earlier = result[name]
  if (earlier === undefined) result[name] = value
  else if (typeof earlier === 'string') result[name] = [earlier, value]
  else earlier.push(value)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return `${text}\ud800`
  }
}
