/** What to do after an answer. */
export type Verdict =
  /** The endpoint has the message. */
  | 'delivered'
  /** The same request may succeed later. */
  | 'retry'
  /** The endpoint is gone for good. */
  | 'gone'
  /** The same request would be refused again. */
  | 'rejected'

const GONE = 410
/** Request Timeout, Too Early, Too Many Requests. */
const RETRIED = [408, 425, 429]

/** @param status undefined where there was no whole answer */
export function verdictOf(status: number | undefined): Verdict {
  if (status === undefined || status >= 500 || RETRIED.includes(status)) return 'retry'
  if (status >= 200 && status < 300) return 'delivered'
  return status === GONE ? 'gone' : 'rejected'
}

const FIRST_MS = 250
/** An endpoint that asks for a longer time is tried again after this one. */
const RETRY_AFTER_MAX_MS = 3_600_000

/**
 * How long to wait before the next try: 250 ms, doubled with each further failure up to `maxMs`. The upper half is
 * random, so that many messages and bridges do not come back in the same moment.
 * @param failures how many tries have failed, at least 1
 */
export function retryDelayMs(failures: number, maxMs: number): number {
  return Math.min(maxMs, FIRST_MS * 2 ** Math.min(failures - 1, 30)) * (0.5 + Math.random() / 2)
}

/**
 * Milliseconds that a Retry-After header asks to wait (RFC 9110 section 10.2.3), an hour at most; undefined where it
 * says nothing.
 */
export function retryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - nowMs
  return Number.isNaN(ms) ? undefined : Math.min(RETRY_AFTER_MAX_MS, Math.max(0, ms))
}
