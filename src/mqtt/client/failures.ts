const UNANSWERED = 'CONNACK_TIMEOUT'
const CLOSED_UNANSWERED = 'CLOSED_UNANSWERED'
const NOT_ANSWERING = 'NOT_ANSWERING'
const FOREIGN_SESSION = 'FOREIGN_SESSION'
const TOO_LARGE = 'PACKET_TOO_LARGE'
/** The error of `ws` for a WebSocket message over its limit. */
const MESSAGE_TOO_LARGE = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'

/** Why the bridge itself ends a connection. */
type Failure = Error & { code: string }

/**
 * An attempt to connect took too long.
 * @param isSent CONNECT is with the broker, which does not answer it; otherwise it could not even be sent
 */
export function connectTimeout(isSent: boolean, timeoutMs: number): Failure {
  const what = isSent ? 'it did not answer CONNECT' : 'it could not be reached'
  return failure(`${what} within ${timeoutMs} ms`, isSent ? UNANSWERED : 'ETIMEDOUT')
}

/** Whether an attempt failed because a broker that was reached did not answer CONNECT. */
export function isUnanswered(cause: unknown): boolean {
  return codeOf(cause) === UNANSWERED
}

/** The broker closed the connection in place of CONNACK. */
export function closedUnanswered(): Failure {
  return failure(
    'it closed the connection without an answer, as some brokers do over credentials that they refuse',
    CLOSED_UNANSWERED,
  )
}

export function isClosedUnanswered(cause: unknown): boolean {
  return codeOf(cause) === CLOSED_UNANSWERED
}

/** The broker does not answer on an established connection. */
export function notAnswering(why: string): Failure {
  return failure(why, NOT_ANSWERING)
}

/** Whether it may be that the broker does not answer on other connections either. */
export function isSuspicious(cause: unknown): boolean {
  return [UNANSWERED, NOT_ANSWERING, 'ETIMEDOUT'].includes(codeOf(cause) as string)
}

/** The broker sends too large a packet. */
export function packetTooLarge(bytes: number, maxBytes: number): Failure {
  const text = `the broker sent a packet of ${bytes} bytes; CAUSEWAY_MQTT_MAX_PACKET_BYTES allows ${maxBytes}`
  return failure(text, TOO_LARGE)
}

export function isPacketTooLarge(cause: unknown): boolean {
  return [TOO_LARGE, MESSAGE_TOO_LARGE].includes(codeOf(cause) as string)
}

/** The session that the broker continued is or may be another client's. */
export function foreignSession(): Failure {
  return failure('the broker continued a session that may be another client’s', FOREIGN_SESSION)
}

export function isForeignSession(cause: unknown): boolean {
  return codeOf(cause) === FOREIGN_SESSION
}

/** The system's code, one of those above, or the reason code of a CONNACK that refused. */
export function codeOf(cause: unknown): unknown {
  return (cause as { code?: unknown } | undefined)?.code
}

function failure(text: string, code: string): Failure {
  return Object.assign(new Error(text), { code })
}
