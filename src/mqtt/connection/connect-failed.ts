import { CausewayError } from '../../errors.ts'
import { codeOf } from '../client/failures.ts'
import { reasonName } from '../reason-codes.ts'
import { systemFault } from './system-fault.ts'
import { tlsFault } from './tls-fault.ts'

/** CONNACK codes of MQTT 3.1.1; those of MQTT 5 begin with 0x80. */
const RETURN_CODES: Record<number, string> = {
  1: 'Unsupported protocol version',
  2: 'Client identifier not valid',
  3: 'Server unavailable',
  4: 'Bad user name or password',
  5: 'Not authorized',
}
const PROTOCOL = 'check CAUSEWAY_MQTT_PROTOCOL'
const CLIENT_ID = 'check CAUSEWAY_MQTT_CLIENT_ID'
const CREDENTIALS = 'check CAUSEWAY_MQTT_USERNAME and CAUSEWAY_MQTT_PASSWORD'
/** What to do about CONNACK codes that come again at each attempt, until somebody changes a setting. */
const LASTING: Record<number, string> = {
  0x01: PROTOCOL,
  0x02: CLIENT_ID,
  0x04: CREDENTIALS,
  0x05: CREDENTIALS,
  0x84: PROTOCOL,
  0x85: CLIENT_ID,
  0x86: CREDENTIALS,
  0x87: CREDENTIALS,
  0x8c: CREDENTIALS,
}
/**
 * The error for an attempt to connect that failed.
 * @param cause its `code` is a number if CONNACK refused, and a string if it is a system error; without a cause, the
 *   broker closed the connection without a reason, or has not answered yet
 * @param serverReference another server that the broker named
 */
export function connectFailed(cause: unknown, serverReference?: string): CausewayError {
  const code = codeOf(cause)
  if (typeof code === 'number') return refused(code, cause, serverReference)
  return new CausewayError(
    'broker-unavailable',
    `There is no connection to the broker${reasonOf(cause)}; nothing was sent`,
    { retryAfter: 1, cause },
  )
}

/**
 * The error for an established connection that was lost. No caller gets it, as reconnecting has begun.
 * @param disconnectReason of the broker's DISCONNECT
 */
export function connectionLost(
  cause: unknown,
  disconnectReason: number | undefined,
  serverReference: string | undefined,
): CausewayError {
  const reason =
    disconnectReason !== undefined
      ? `: ${withReference(reasonName(disconnectReason), serverReference)}`
      : cause === undefined
        ? ': the broker closed it'
        : reasonOf(cause)
  return new CausewayError('broker-unavailable', `The connection to the broker was lost${reason}`, {
    retryAfter: 1,
    cause,
    ...(disconnectReason !== undefined && {
      mqtt: { reasonCode: disconnectReason, reason: reasonName(disconnectReason) },
    }),
  })
}

/** Whether an attempt that failed with this code cannot have brought CONNECT to the broker. */
export function cannotHaveReached(code: unknown): boolean {
  if (typeof code !== 'string') return false
  return (
    code === 'ETIMEDOUT' || (code !== 'ECONNRESET' && systemFault(code) !== undefined) || tlsFault(code) !== undefined
  )
}

function refused(code: number, cause: unknown, serverReference: string | undefined): CausewayError {
  const reason = RETURN_CODES[code] ?? reasonName(code)
  const what = `The broker refuses the bridge's connection: ${withReference(reason, serverReference)}`
  const mqtt = { reasonCode: code, reason }
  const remedy = LASTING[code]
  return remedy === undefined
    ? new CausewayError('broker-unavailable', what, { mqtt, retryAfter: 5, cause })
    : new CausewayError('bridge-refused', `${what}; ${remedy}`, { mqtt, cause })
}

function withReference(reason: string, serverReference: string | undefined): string {
  return serverReference === undefined ? reason : `${reason} (${JSON.stringify(serverReference)})`
}

function reasonOf(cause: unknown): string {
  const code = codeOf(cause)
  const words = typeof code === 'string' ? (tlsFault(code) ?? systemFault(code)) : undefined
  if (words !== undefined) return `: ${words} (${code})`
  // The texts of our own failures say it all; those of others may lack their code.
  if (!(cause instanceof Error)) return ''
  return `: ${cause.message || String(code)}`
}
