import { CausewayError } from '../../errors.ts'
import { reasonName } from '../reason-codes.ts'
import { tlsFault } from './tls-fault.ts'

/**
 * The error for an attempt to connect that failed.
 * @param cause its `code` is a number if CONNACK refused, and a string if it is a system error; without a cause, the
 *   broker closed the connection without a reason, or has not answered yet
 */
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
  const reason =
    fault !== undefined
      ? `: ${fault} (${code})`
      : typeof code === 'string'
        ? ` (${code})`
        : cause instanceof Error
          ? ` (${cause.message})`
          : ''
  return new CausewayError('broker-unavailable', `There is no connection to the broker${reason}; nothing was sent`, {
    retryAfter: 1,
    cause,
  })
}
