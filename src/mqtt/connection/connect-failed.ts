import { CausewayError } from '../../errors.ts'
import { reasonName } from '../reason-codes.ts'
import { tlsFault } from './tls-fault.ts'

/** Why there is no connection. A numeric code is CONNACK's, a text the system's; without a cause it takes longer than it should. */
export function connectFailed(cause: unknown): CausewayError {
  const code = (cause as { code?: unknown } | undefined)?.code
  if (typeof code === 'number') {
    const reason = code < 0x80 ? (cause as Error).message : reasonName(code)
    return new CausewayError('broker-unavailable', `The broker refuses the bridge's connection: ${reason}`, {
      mqtt: { reasonCode: code, reason },
      retryAfter: 5,
      cause,
    })
  }
  const fault = typeof code === 'string' ? tlsFault(code) : undefined
  const why =
    fault !== undefined
      ? `: ${fault} (${code})`
      : typeof code === 'string'
        ? ` (${code})`
        : cause instanceof Error
          ? ` (${cause.message})`
          : ''
  return new CausewayError('broker-unavailable', `There is no connection to the broker${why}; nothing was sent`, {
    retryAfter: 1,
    cause,
  })
}
