import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { CausewayError, type ProblemCode } from '../../errors.ts'
import { toJson } from '../../json-text.ts'
import { isDisconnected } from '../server/disconnects.ts'

export const PROBLEM_TYPE = 'application/problem+json'

/** Problems for the errors of Fastify and Node, by their code. */
const LIBRARY_ERRORS: Record<string, [ProblemCode, string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payload-too-large', 'The body is larger than CAUSEWAY_BODY_LIMIT_BYTES allows'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['invalid-request', 'The body is not as long as Content-Length says'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported-media-type', 'This address does not support the Content-Type'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['invalid-request', 'The body is empty where JSON is expected'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['invalid-request', 'The body is not valid JSON'],
  FST_ERR_BAD_URL: ['invalid-request', 'The path is not a valid URL'],
  FST_ERR_MAX_PARAM_LENGTH: ['uri-too-long', 'The path is too long'],
  HPE_HEADER_OVERFLOW: ['headers-too-large', 'The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES'],
  ERR_HTTP_REQUEST_TIMEOUT: ['request-timeout', 'The request did not arrive in time'],
}

/**
 * The problem document of an error (RFC 9457). Its extension members are for programs: `code` and `retryable` always,
 * `mqtt`, `outcome` and `errors` where they apply.
 */
export function problemDocument({ kind, message, details }: CausewayError) {
  return {
    type: `urn:causeway:problem:${kind.code}`,
    title: kind.title,
    status: kind.status,
    detail: message,
    code: kind.code,
    retryable: kind.retryable,
    ...(details.mqtt && { mqtt: details.mqtt }),
    ...(details.outcome && { outcome: details.outcome }),
    ...(details.faults && { errors: details.faults }),
  }
}

export function sendProblem(error: CausewayError, reply: FastifyReply): FastifyReply {
  if (error.details.retryAfter !== undefined) reply.header('retry-after', error.details.retryAfter)
  if (error.details.acceptEncoding !== undefined) reply.header('accept-encoding', error.details.acceptEncoding)
  if (error.details.challenge !== undefined) reply.header('www-authenticate', error.details.challenge)
  return reply.code(error.kind.status).type(PROBLEM_TYPE).serializer(toJson).send(problemDocument(error))
}

/** The problem that an error is to the caller. An error that nothing here knows is `internal`. */
export function asProblem(error: unknown): CausewayError {
  if (error instanceof CausewayError) return error
  const { code, statusCode } = error as Partial<FastifyError>
  const known = LIBRARY_ERRORS[code ?? '']
  if (known !== undefined) return new CausewayError(known[0], known[1], { cause: error })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new CausewayError('invalid-request', (error as Error).message, { cause: error })
  }
  return new CausewayError(
    'internal',
    'Causeway failed unexpectedly, and its log says why. Whether the request had an effect is unknown',
    { cause: error },
  )
}

export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = asProblem(error)
  // The client left before the first byte of a streamed answer. That is no failure.
  const isClientGone = isDisconnected(reply) && (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE'
  if (problem.kind.code === 'internal' && !isClientGone) {
    request.log.error(
      { err: error, requestId: request.id, method: request.method, route: request.routeOptions.url },
      'a request failed with an unexpected error',
    )
  }
  return sendProblem(problem, reply)
}

/** A complete HTTP/1.1 response, for a request that is too broken for Fastify to make a reply. */
export function rawProblem(code: string | undefined): string {
  const problem = asProblem({ code, statusCode: 400, message: 'The request is not valid HTTP' })
  const { status } = problem.kind
  const body = JSON.stringify(problemDocument(problem))
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n')
}
