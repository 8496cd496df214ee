import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

/** Ids that proxies and clients make: UUIDs, base64, trace ids, paths. All others could forge or fill the log. */
const GIVEN = /^[\w.:/+=@-]{1,128}$/
const PREFIX_BYTES = 6

/**
 * Makes the id of each request: its `X-Request-Id` if that is one of at most 128 plain characters, else a new one that
 * no other process makes.
 */
export function createRequestIds(): (request: { headers: IncomingHttpHeaders }) => string {
  const prefix = randomBytes(PREFIX_BYTES).toString('hex')
  let count = 0
  return ({ headers }) => {
    const given = headers['x-request-id']
    if (typeof given === 'string' && GIVEN.test(given)) return given
    count += 1
    return `${prefix}-${count}`
  }
}
