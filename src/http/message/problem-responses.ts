import { CausewayError, PROBLEM_KINDS, type ProblemCode, type ProblemDetails } from '../../errors.ts'
import { PROBLEM_TYPE, problemDocument } from './problem.ts'

/** An example of each problem for the OpenAPI document: its detail and the members that it has. */
const PROBLEM_EXAMPLES: Record<ProblemCode, [detail: string, details?: ProblemDetails]> = {
  'invalid-request': [
    'body #/topic must not contain the wildcards + and #',
    { faults: [{ in: 'body', pointer: '#/topic', detail: 'must not contain the wildcards + and #' }] },
  ],
  'topic-invalid': [
    'The broker refused the message for a//b: Topic name invalid',
    { mqtt: { reasonCode: 0x90, reason: 'Topic name invalid' } },
  ],
  'filter-invalid': [
    'The broker refused the subscription to a/+: Topic filter invalid',
    { mqtt: { reasonCode: 0x8f, reason: 'Topic filter invalid' } },
  ],
  unauthorized: [
    'The token is not known',
    { challenge: 'Bearer realm="causeway", error="invalid_token", error_description="The token is not known"' },
  ],
  'not-authorized': [
    'The broker refused the message for home/door: Not authorized',
    { mqtt: { reasonCode: 0x87, reason: 'Not authorized' } },
  ],
  forbidden: [
    'Publishing to home/door needs a publish rule that matches it',
    { challenge: 'Bearer realm="causeway", error="insufficient_scope"' },
  ],
  'not-found': ['There is nothing at /publsh'],
  'session-not-open': [
    'No instance that answered has session 5feceb66ffc8-6b86b273ff34fce19d6b open; try again, or reconnect',
  ],
  'no-responder': ['Nobody subscribes to home/door/open'],
  'method-not-allowed': ['/publish supports only POST'],
  'not-acceptable': ['Streams are available as text/event-stream and application/x-ndjson'],
  'request-timeout': ['The request did not arrive in time'],
  'idempotency-running': ['The first request with this Idempotency-Key is still running', { retryAfter: 1 }],
  'idempotency-mismatch': ['This Idempotency-Key was used for a different request; use a new key for each request'],
  'idempotency-unavailable': [
    'Whether this Idempotency-Key was used before cannot be told now, as Redis is away (the connection was closed); ' +
      'the message was not sent',
    { outcome: 'not-sent', retryAfter: 1 },
  ],
  'event-unknown': ['3f9c2ab41d07-42 is not an event of the stream that this session has now'],
  'acknowledges-itself': ['The stream of this session was opened with ack=auto'],
  'payload-too-large': ['The body is larger than CAUSEWAY_BODY_LIMIT_BYTES'],
  'uri-too-long': ['The path is too long'],
  'unsupported-media-type': [
    'Send the message as application/json, or put the topic into the query to send the body as the payload',
  ],
  'payload-format-invalid': ['payloadFormatIndicator says UTF-8, but the payload is not'],
  'retain-not-supported': ['The broker does not retain messages; publish without retain'],
  'qos-not-supported': ['The broker takes QoS 1 at most, not 2'],
  'session-qos': [
    'A session is delivered at QoS 1: QoS 0 keeps nothing, and QoS 2 adds nothing over HTTP. Leave qos out',
  ],
  'properties-not-supported': ['This broker speaks MQTT 3.1.1, which cannot carry: contentType'],
  'wildcards-not-supported': ['The broker does not support the wildcards of home/+'],
  'shared-subscriptions-not-supported': [
    'The broker does not support shared subscriptions, which $share/workers/jobs asks for',
  ],
  'too-many-retained': ['More than 10000 retained messages match home/#; a narrower filter matches fewer'],
  'quota-exceeded': [
    'The broker refused the message for home/temp: Quota exceeded',
    { mqtt: { reasonCode: 0x97, reason: 'Quota exceeded' }, retryAfter: 10 },
  ],
  'rate-limited': [
    'This caller sends more than 1000 requests a second, the limit of CAUSEWAY_RATE_IDENTITY; this request had ' +
      'no effect',
    { outcome: 'not-sent', retryAfter: 1 },
  ],
  'too-many-own-streams': [
    '1000 streams of this caller are open; CAUSEWAY_STREAM_MAX_IDENTITY allows no more. Close one first',
    { retryAfter: 5 },
  ],
  'too-many-attempts': [
    '20 credentials from this address were refused; CAUSEWAY_AUTH_REFUSED_MAX allows no more for now',
    { retryAfter: 10 },
  ],
  'headers-too-large': ['The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES'],
  internal: ['Causeway failed unexpectedly, and its log says why. Whether the request had an effect is unknown'],
  'sessions-not-supported': [
    'The broker ends every session with its connection (Session Expiry Interval 0), so it keeps nothing for a reader',
  ],
  'too-many-own-sessions': [
    '500 sessions of this caller are open; only as many as are left for all others (CAUSEWAY_SESSION_MAX) are ' +
      'allowed. Close some first',
    { retryAfter: 5 },
  ],
  'transfer-coding-not-supported': ['The only transfer coding that is supported is chunked'],
  'requests-not-supported': ['The broker speaks MQTT 3.1.1, which has no request and response'],
  'retained-wildcards-not-supported': [
    'The broker hands on retained messages for exact topics only, and home/# has wildcards',
  ],
  'topic-not-supported': ['The broker changes . in topics, so messages to home/temp.1 arrive elsewhere'],
  'no-reply': ['Nobody replied within 5000 ms'],
  'broker-refused': [
    'The broker refused the subscription to home/#: Unspecified error',
    { mqtt: { reasonCode: 0x80, reason: 'Unspecified error' } },
  ],
  'publish-interrupted': [
    'Whether the message was published is not known: the connection was lost twice while the message was in flight; ' +
      'the broker may refuse it that way',
    { outcome: 'unknown' },
  ],
  'broker-unavailable': [
    'There is no connection to the broker: nothing listens there (ECONNREFUSED); nothing was sent',
    { retryAfter: 1 },
  ],
  'bridge-refused': [
    "The broker refuses the bridge's connection: Bad user name or password; " +
      'check CAUSEWAY_MQTT_USERNAME and CAUSEWAY_MQTT_PASSWORD',
    { mqtt: { reasonCode: 0x86, reason: 'Bad user name or password' } },
  ],
  'keys-unavailable': ['The keys to verify tokens with cannot be fetched', { retryAfter: 2 }],
  overloaded: [
    "1000 messages already wait for the broker's answer; this one was not sent",
    { outcome: 'not-sent', retryAfter: 1 },
  ],
  'too-many-callers': [
    '100 callers have connections of their own; CAUSEWAY_LINK_MAX allows no more',
    { retryAfter: 5 },
  ],
  'too-many-overlaps': [
    'home/+ overlaps with filters on each of 16 connections, which is all CAUSEWAY_SUBSCRIBE_CONNECTIONS_MAX allows',
    { retryAfter: 5 },
  ],
  'too-many-streams': ['10000 streams are open; CAUSEWAY_STREAM_MAX allows no more', { retryAfter: 5 }],
  'too-many-sessions': ['1000 sessions are open; CAUSEWAY_SESSION_MAX allows no more', { retryAfter: 5 }],
  'shutting-down': ['This instance is shutting down; ask another one', { retryAfter: 1 }],
  'acknowledgement-timeout': [
    'The broker did not acknowledge within 10000 ms; the message may or may not have been published',
    { outcome: 'unknown' },
  ],
}

/** The example documents by code, as OpenAPI's `components.examples`. */
export function problemExamples(): Record<string, object> {
  return Object.fromEntries(
    [...PROBLEM_KINDS].map(([code, { title }]) => {
      const [detail, details] = PROBLEM_EXAMPLES[code]
      return [code, { summary: title, value: problemDocument(new CausewayError(code, detail, details)) }]
    }),
  )
}

interface ProblemResponse {
  description: string
  headers?: object
  content: Record<string, { schema: object; examples: Record<string, { $ref: string }> }>
}

const WWW_AUTHENTICATE = {
  'WWW-Authenticate': { type: 'string', description: 'The accepted kinds of credentials (RFC 6750)' },
}
const RETRY_AFTER = { 'Retry-After': { type: 'integer', description: 'Seconds to wait before trying again' } }
/** Problems of every operation, besides its own. Not those that Node or Fastify find before a route is chosen. */
const PROBLEMS_OF_ALL: ProblemCode[] = [
  'unauthorized',
  'rate-limited',
  'too-many-attempts',
  'internal',
  'keys-unavailable',
  'too-many-callers',
  'shutting-down',
]

/** Problems that are found before an operation is known, or that only some ways to call one have. */
const PROBLEMS_OF_ANY: ProblemCode[] = [
  'not-found',
  'method-not-allowed',
  'request-timeout',
  'uri-too-long',
  'headers-too-large',
  'transfer-coding-not-supported',
  'bridge-refused',
]

/** The OpenAPI response for every status that an operation does not name. */
export const ANY_OTHER_PROBLEM = {
  description: 'Any other problem',
  content: {
    [PROBLEM_TYPE]: {
      schema: { $ref: '#/components/schemas/Problem' },
      examples: Object.fromEntries(PROBLEMS_OF_ANY.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
    },
  },
}

/** The OpenAPI responses of an operation that may answer with these problems, and with those of every operation. */
export function problems(...codes: ProblemCode[]): Record<number, object> {
  return onlyProblems(...codes, ...PROBLEMS_OF_ALL)
}

/** The OpenAPI responses of an operation that may answer with these problems and no other ones. */
export function onlyProblems(...codes: ProblemCode[]): Record<number, object> {
  const responses: Record<number, ProblemResponse> = {}
  for (const code of new Set(codes)) {
    const { status, title } = PROBLEM_KINDS.get(code)!
    const response = (responses[status] ??= {
      description: title,
      content: { [PROBLEM_TYPE]: { schema: { $ref: 'Problem#' }, examples: {} } },
    })
    if (!response.description.includes(title)) response.description += `; or: ${title}`
    const { retryAfter, challenge } = PROBLEM_EXAMPLES[code][1] ?? {}
    if (retryAfter !== undefined) response.headers = { ...response.headers, ...RETRY_AFTER }
    if (challenge !== undefined) response.headers = { ...response.headers, ...WWW_AUTHENTICATE }
    response.content[PROBLEM_TYPE]!.examples[code] = { $ref: `#/components/examples/${code}` }
  }
  return responses
}
