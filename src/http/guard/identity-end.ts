import type { Writable } from 'node:stream'
import type { Identity } from '../../auth/identity.ts'
import type { Format } from '../../stream/formats/format.ts'
import type { Ending } from '../../stream/reader.ts'

/** The longest a timer of Node takes; a longer one fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** Aborted, with the farewell as its reason, once the caller's identity has ended; as long as the response is open. */
export function endWithIdentity(
  { expiresAt = Infinity, revoked }: Identity,
  format: Format,
  response: Writable,
): AbortSignal {
  const ending = new AbortController()
  const end = (reason: 'expired' | 'revoked'): void => {
    const farewell: Ending = {
      reason,
      text: () => format.event('status', undefined, JSON.stringify({ credentials: reason })),
    }
    ending.abort(farewell)
  }
  const onRevoked = (): void => end('revoked')
  let timer: NodeJS.Timeout | undefined
  const wait = (): void => {
    const rest = expiresAt - Date.now()
    if (rest <= 0) end('expired')
    else timer = setTimeout(wait, Math.min(rest, TIMER_MAX_MS))
  }
  if (expiresAt !== Infinity) wait()
  if (revoked?.aborted) end('revoked')
  revoked?.addEventListener('abort', onRevoked)
  response.once('close', () => {
    clearTimeout(timer)
    revoked?.removeEventListener('abort', onRevoked)
  })
  return ending.signal
}
