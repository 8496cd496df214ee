/** `traceparent` of W3C Trace Context: version, trace id, parent id, flags. */
const TRACEPARENT = /^[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-([\da-f]{2})/
const SAMPLED = 1

/** The trace id of a `traceparent` whose trace is sampled, so that it can be looked up; undefined for all else. */
export function sampledTraceId(traceparent: string | readonly string[] | undefined): string | undefined {
  if (typeof traceparent !== 'string') return undefined
  const [, traceId, flags = '0'] = TRACEPARENT.exec(traceparent) ?? []
  return (Number.parseInt(flags, 16) & SAMPLED) === 0 ? undefined : traceId
}
