/** Media ranges of an `Accept` header in lower case, each with its weight from 0 to 1. */
export type AcceptRanges = ReadonlyMap<string, number>

/** Parses an `Accept` header (RFC 9110 section 12.5.1). A missing or empty one accepts everything. */
export function parseAccept(accept = ''): AcceptRanges {
  const ranges = accept
    .split(',')
    .filter((range) => range.trim() !== '')
    .map((range): [string, number] => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
      const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
      return [type, weight === undefined ? 1 : Number(weight) || 0]
    })
  const weights = new Map<string, number>()
  // Prometheus names one type several times, for its versions. The highest weight counts.
  for (const [type, weight] of ranges) weights.set(type, Math.max(weight, weights.get(type) ?? 0))
  return weights.size > 0 ? weights : new Map([['*/*', 1]])
}

/** The weight that the most specific matching range gives the type; 0 means that it is not accepted. */
export function quality(ranges: AcceptRanges, type: string): number {
  return ranges.get(type) ?? ranges.get(type.replace(/\/.*/, '/*')) ?? ranges.get('*/*') ?? 0
}
