export interface Http1Limits {
  /** Time for the headers of one request to arrive. */
  headersTimeoutMs: number
  /** Size of the headers of one request, with its first line. */
  headersBytes: number
  /** A connection without a request for this long is closed. */
  keepAliveTimeoutMs: number
}

/** Node looks for late headers this often, or more often where the timeout is shorter. */
const CHECK_INTERVAL_MS = 5000

/** Options of Node's HTTP/1.1 server, with and without TLS. */
export function http1Options({ headersTimeoutMs, headersBytes, keepAliveTimeoutMs }: Http1Limits) {
  return {
    headersTimeout: headersTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    maxHeaderSize: headersBytes,
    connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, headersTimeoutMs),
    // Node would answer a request without Host itself and still start the request behind it. See host-header.ts.
    requireHostHeader: false,
  }
}
