import type { Writable } from 'node:stream'
import type { Identity } from '../../auth/identity.ts'
import { encodeEvent } from '../../stream/events.ts'
import type { Format } from '../../stream/formats/format.ts'
import type { StreamEnd } from '../../stream/reader.ts'

/** The longest timer that Node takes, about 25 days. A longer one fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

/**
 * A signal that is aborted when the caller's identity expires or is revoked. Its reason is a `StreamEnd` that tells the
 * reader so. Its timer and listener are removed when the response closes.
 */
export function endWithIdentity(
  { expiresAt = Infinity, revoked }: Identity,
  format: Format,
  response: Writable,
): AbortSignal {
  const controller = new AbortController()
  const end = (reason: 'expired' | 'revoked'): void => {
    const streamEnd: StreamEnd = {
      reason,
      lastBytes: () => encodeEvent(format, 'status', undefined, { credentials: reason }),
    }
    controller.abort(streamEnd)
  }
  const onRevoked = (): void => end('revoked')
  let timer: NodeJS.Timeout | undefined
  const endOnExpiry = (): void => {
    const remainingMs = expiresAt - Date.now()
    if (remainingMs <= 0) end('expired')
    else timer = setTimeout(endOnExpiry, Math.min(remainingMs, TIMER_MAX_MS))
  }
  if (expiresAt !== Infinity) endOnExpiry()
  if (revoked?.aborted) end('revoked')
  revoked?.addEventListener('abort', onRevoked)
  response.once('close', () => {
    clearTimeout(timer)
    revoked?.removeEventListener('abort', onRevoked)
  })
  return controller.signal
}
