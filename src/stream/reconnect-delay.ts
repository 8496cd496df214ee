const MIN_MS = 500
const SPREAD_MS = 4500

/**
 * How many milliseconds a client is asked to wait before it reconnects after a shutdown: 500 to 5000, at random for
 * each client, so that they do not all reconnect at once.
 */
export function reconnectDelayMs(): number {
  return MIN_MS + Math.floor(Math.random() * SPREAD_MS)
}
