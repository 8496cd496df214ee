/** Of one request over HTTP/1.1: the time for its head to arrive, and the bytes of it. */
export interface HeadLimits {
  headersMs: number
  headersBytes: number
}

/** How often Node looks for heads that are late, at the least. */
const LATE_CHECK_MS = 5000

/** What Node's server is told of HTTP/1.1, be there TLS or not. */
export function http1Options({ headersMs, headersBytes }: HeadLimits) {
  return {
    headersTimeout: headersMs,
    maxHeaderSize: headersBytes,
    connectionsCheckingInterval: Math.min(LATE_CHECK_MS, headersMs),
    // Node would answer a request without Host itself, and begin what is behind it all the same.
    requireHostHeader: false,
  }
}
