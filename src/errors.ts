/**
 * Every way a request can fail: code, HTTP status, title, and whether the same request may succeed later (`retryable`).
 * Where the outcome is unknown, sending a message again may publish it twice.
 */
const PROBLEMS = [
  ['invalid-request', 400, 'The request is not valid', false],
  ['topic-invalid', 400, 'The broker does not accept this topic', false],
  ['filter-invalid', 400, 'The broker does not accept this topic filter', false],
  ['unauthorized', 401, 'Credentials are missing or not valid', false],
  ['not-authorized', 403, 'The broker does not allow this', false],
  ['forbidden', 403, 'The caller may not do this', false],
  ['not-found', 404, 'There is nothing at this address', false],
  ['session-not-open', 404, 'No instance has the session open', true],
  ['no-responder', 404, 'No client subscribes to the topic', true],
  ['method-not-allowed', 405, 'The address does not support the method', false],
  ['not-acceptable', 406, 'None of the formats in Accept is available', false],
  ['request-timeout', 408, 'The request did not arrive in time', true],
  ['idempotency-running', 409, 'The first request with this key is still running', true],
  ['event-unknown', 409, 'The session has no such event', false],
  ['acknowledges-itself', 409, 'The session acknowledges automatically', false],
  ['payload-too-large', 413, 'The message or body is too large', false],
  ['uri-too-long', 414, 'The request target is too long', false],
  ['unsupported-media-type', 415, 'The address does not support the Content-Type', false],
  ['idempotency-mismatch', 422, 'The key was used for a different request', false],
  ['payload-format-invalid', 422, 'The payload is not UTF-8, as its format indicator says', false],
  ['retain-not-supported', 422, 'The broker does not retain messages', false],
  ['qos-not-supported', 422, 'The broker does not support this QoS', false],
  ['session-qos', 422, 'Durable sessions require QoS 1', false],
  ['properties-not-supported', 422, 'Message properties require MQTT 5', false],
  ['wildcards-not-supported', 422, 'The broker does not support wildcards', false],
  ['shared-subscriptions-not-supported', 422, 'The broker does not support shared subscriptions', false],
  ['too-many-retained', 422, 'Too many retained messages match', false],
  ['quota-exceeded', 429, 'A quota of the broker is exceeded', true],
  ['rate-limited', 429, 'Too many requests', true],
  ['too-many-own-streams', 429, 'The caller has too many streams open', true],
  ['too-many-own-sessions', 429, 'The caller has too many sessions', true],
  ['too-many-attempts', 429, 'Too many credentials were refused', true],
  ['headers-too-large', 431, 'The request headers are too large', false],
  ['internal', 500, 'Causeway failed unexpectedly', true],
  ['sessions-not-supported', 501, 'The broker does not keep sessions', false],
  ['transfer-coding-not-supported', 501, 'The transfer coding is not supported', false],
  ['requests-not-supported', 501, 'Request and response require MQTT 5', false],
  ['retained-wildcards-not-supported', 501, 'The broker serves retained messages for exact topics only', false],
  ['topic-not-supported', 501, 'The broker changes this topic', false],
  ['broker-refused', 502, 'The broker refused the request', false],
  ['publish-interrupted', 502, 'The broker connection was lost while the message was in flight', true],
  ['broker-unavailable', 503, 'The broker cannot be reached', true],
  ['bridge-refused', 503, 'The broker refuses the bridge', false],
  ['idempotency-unavailable', 503, 'Idempotency-Keys cannot be looked up', true],
  ['keys-unavailable', 503, 'The keys to verify tokens with cannot be fetched', true],
  ['overloaded', 503, 'There is no room for more at present', true],
  ['too-many-callers', 503, 'Too many callers have their own broker connections', true],
  ['too-many-overlaps', 503, 'Too many overlapping filters', true],
  ['too-many-streams', 503, 'Too many streams are open', true],
  ['too-many-sessions', 503, 'Too many sessions are open', true],
  ['shutting-down', 503, 'This instance is shutting down', true],
  ['acknowledgement-timeout', 504, 'The broker did not answer in time', true],
  ['no-reply', 504, 'Nobody replied in time', true],
] as const

export type ProblemCode = (typeof PROBLEMS)[number][0]

export interface ProblemKind {
  code: ProblemCode
  status: number
  title: string
  retryable: boolean
}

export const PROBLEM_KINDS: ReadonlyMap<ProblemCode, ProblemKind> = new Map(
  PROBLEMS.map(([code, status, title, retryable]) => [code, { code, status, title, retryable }]),
)

/** One fault in a request. `pointer` is a JSON pointer as URI fragment (RFC 6901 section 6). */
export interface Fault {
  in: 'body' | 'query' | 'headers'
  pointer: string
  detail: string
}

export interface ProblemDetails {
  /** The reason code of the broker's answer, and its name. */
  mqtt?: { reasonCode: number; reason: string }
  /** Whether the message reached the broker, where this does not follow from the status. */
  outcome?: 'unknown' | 'not-sent'
  faults?: Fault[]
  /** Seconds to wait before trying again. */
  retryAfter?: number
  /** Value of `WWW-Authenticate`: the kinds of credentials that are accepted. */
  challenge?: string
  /** Value of `Accept-Encoding`: the content codings that are accepted for a body. */
  acceptEncoding?: string
  cause?: unknown
}

/** An expected failure. The caller gets it as a problem document (RFC 9457) whose `detail` is the message. */
export class CausewayError extends Error {
  readonly kind: ProblemKind
  readonly details: ProblemDetails

  constructor(code: ProblemCode, detail: string, details: ProblemDetails = {}) {
    super(detail, { cause: details.cause })
    this.name = 'CausewayError'
    this.kind = PROBLEM_KINDS.get(code)!
    this.details = details
  }
}
