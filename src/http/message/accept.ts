/** By media range, in lower case, how much a client likes it. */
export type AcceptRanges = ReadonlyMap<string, number>

/** An `Accept` header (RFC 9110 section 12.5.1). Without one, or of an empty one, anything will do. */
export function parseAccept(accept = ''): AcceptRanges {
  const ranges = accept
    .split(',')
    .filter((range) => range.trim() !== '')
    .map((range): [string, number] => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
      const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
      return [type, weight === undefined ? 1 : Number(weight) || 0]
    })
  return new Map(ranges.length > 0 ? ranges : [['*/*', 1]])
}

/** From 0, not at all, to 1: what the most specific range that covers the type says. */
export function quality(ranges: AcceptRanges, type: string): number {
  return ranges.get(type) ?? ranges.get(type.replace(/\/.*/, '/*')) ?? ranges.get('*/*') ?? 0
}
