import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { CausewayError, type ProblemCode } from '../../errors.ts'
import { isDisconnected } from '../server/disconnects.ts'

export const PROBLEM_TYPE = 'application/problem+json'

/** Fastify's and Node's own errors, by their code. */
const FOREIGN: Record<string, [ProblemCode, string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payload-too-large', 'The body is larger than CAUSEWAY_BODY_LIMIT_BYTES'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['invalid-request', 'The body is not as long as Content-Length says'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported-media-type', 'This address takes no body of that type'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['invalid-request', 'The body is empty where JSON is expected'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['invalid-request', 'The body is not valid JSON'],
  FST_ERR_BAD_URL: ['invalid-request', 'The path is not a valid URL'],
  FST_ERR_MAX_PARAM_LENGTH: ['uri-too-long', 'The path is too long'],
  HPE_HEADER_OVERFLOW: ['headers-too-large', 'The request headers are larger than CAUSEWAY_HEADERS_LIMIT_BYTES'],
  ERR_HTTP_REQUEST_TIMEOUT: ['request-timeout', 'The request did not arrive in time'],
}

/** The document of RFC 9457, with what clients act on: `code`, `retryable`, and where they apply `mqtt`, `outcome`, `errors`. */
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
  if (error.details.challenge !== undefined) reply.header('www-authenticate', error.details.challenge)
  return reply.code(error.kind.status).type(PROBLEM_TYPE).serializer(JSON.stringify).send(problemDocument(error))
}

export function asProblem(error: unknown): CausewayError {
  if (error instanceof CausewayError) return error
  const { code, statusCode } = error as Partial<FastifyError>
  const known = FOREIGN[code ?? '']
  if (known !== undefined) return new CausewayError(known[0], known[1], { cause: error })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new CausewayError('invalid-request', (error as Error).message, { cause: error })
  }
  return new CausewayError(
    'internal',
    'This is a fault of Causeway, which its log describes; nothing is known about the outcome',
    { cause: error },
  )
}

export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = asProblem(error)
  // What was to be streamed to a caller who left before its first byte ends so. It is no news.
  const isNoNews = isDisconnected(reply) && (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE'
  if (problem.kind.code === 'internal' && !isNoNews) {
    request.log.error(
      { err: error, method: request.method, route: request.routeOptions.url },
      'a request failed in a way that is not foreseen',
    )
  }
  return sendProblem(problem, reply)
}

/** A whole HTTP/1.1 response, for requests so broken that there is no reply object. */
export function rawProblem(code: string | undefined): string {
  const problem = asProblem({ code, statusCode: 400, message: 'The request is not valid HTTP' })
  const body = JSON.stringify(problemDocument(problem))
  const { status } = problem.kind
  return `HTTP/1.1 ${status} ${status === 431 ? 'Request Header Fields Too Large' : status === 408 ? 'Request Timeout' : 'Bad Request'}\r\nContent-Type: ${PROBLEM_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
}
