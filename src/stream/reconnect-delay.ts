const MIN_MS = 500
const SPREAD_MS = 4500

/** After how many milliseconds a client is asked to come back after a shutdown: another one for each, so that they do not all come at once. */
export function reconnectDelayMs(): number {
  return MIN_MS + Math.floor(Math.random() * SPREAD_MS)
}
