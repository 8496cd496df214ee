/**
 * Every way a request can fail, in one table. `retryable` says whether the same request may succeed later;
 * where the outcome is unknown, sending it again may duplicate the message.
 */
const PROBLEMS = [
  ['invalid-request', 400, 'The request is not valid', false],
  ['topic-invalid', 400, 'The broker does not accept this topic', false],
  ['filter-invalid', 400, 'The broker does not accept this topic filter', false],
  ['unauthorized', 401, 'Credentials are missing or not valid', false],
  ['not-authorized', 403, 'The broker does not allow this', false],
  ['forbidden', 403, 'The caller may not do this', false],
  ['not-found', 404, 'There is nothing at this address', false],
  ['session-not-open', 404, 'The session is not open here', true],
  ['no-responder', 404, 'Nobody subscribes to the topic', true],
  ['method-not-allowed', 405, 'This address does not take that method', false],
  ['not-acceptable', 406, 'None of the accepted formats is available', false],
  ['request-timeout', 408, 'The request was not received in time', true],
  ['idempotency-running', 409, 'The first request with this key is not answered yet', true],
  ['event-unknown', 409, 'The event is not one of this session', false],
  ['acknowledges-itself', 409, 'The session does not take acknowledgements', false],
  ['payload-too-large', 413, 'The message or body is too large', false],
  ['uri-too-long', 414, 'The request target is too long', false],
  ['unsupported-media-type', 415, 'The body is of a type this address does not take', false],
  ['idempotency-mismatch', 422, 'The key belongs to another request', false],
  ['payload-format-invalid', 422, 'The payload is not what its format indicator says', false],
  ['retain-not-supported', 422, 'The broker does not retain messages', false],
  ['qos-not-supported', 422, 'The broker does not support this QoS', false],
  ['session-qos', 422, 'Durable sessions take QoS 1', false],
  ['properties-not-supported', 422, 'Message properties need MQTT 5', false],
  ['wildcards-not-supported', 422, 'The broker does not support wildcards', false],
  ['shared-subscriptions-not-supported', 422, 'The broker does not support shared subscriptions', false],
  ['too-many-retained', 422, 'Too many retained messages match', false],
  ['quota-exceeded', 429, 'The broker says a quota is exceeded', true],
  ['rate-limited', 429, 'Too many requests', true],
  ['too-many-own-streams', 429, 'The caller has too many streams open', true],
  ['too-many-attempts', 429, 'Too many credentials were refused', true],
  ['headers-too-large', 431, 'The request headers are too large', false],
  ['internal', 500, 'Causeway failed', true],
  ['requests-not-supported', 501, 'Request and response need MQTT 5', false],
  ['broker-refused', 502, 'The broker refused this', false],
  ['publish-interrupted', 502, 'The broker connection was lost over this message', true],
  ['broker-unavailable', 503, 'The broker cannot be reached', true],
  ['keys-unavailable', 503, 'The keys that tokens are verified with cannot be fetched', true],
  ['overloaded', 503, 'Too many messages wait for the broker', true],
  ['too-many-callers', 503, 'Too many callers have connections of their own', true],
  ['too-many-overlaps', 503, 'Too many filters overlap', true],
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

/** One fault in a request. `pointer` is a JSON pointer in its URI fragment form (RFC 6901 section 6). */
export interface Fault {
  in: 'body' | 'query' | 'headers'
  pointer: string
  detail: string
}

export interface ProblemDetails {
  /** What the broker answered. */
  mqtt?: { reasonCode: number; reason: string }
  /** Whether the message reached the broker, where the status alone does not say. */
  outcome?: 'unknown' | 'not-sent'
  faults?: Fault[]
  /** Seconds. */
  retryAfter?: number
  /** The `WWW-Authenticate` field: which credentials might help. */
  challenge?: string
  cause?: unknown
}

/** An expected failure that reaches the caller as a problem document (RFC 9457). */
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
