import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import fastify, { type FastifyBaseLogger, LogController, type FastifyInstance, type HTTPMethods } from 'fastify'
import type { Logger } from 'pino'
import { CausewayError } from '../errors.ts'
import { hostFault } from './host.ts'
import { asProblem, handleError, sendProblem } from './problem.ts'
import { ProblemSchema } from './schemas.ts'
import { Turns } from './turns.ts'
import type { Validation } from './validation.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Its successful answers are streams, which count their own time. */
    stream?: boolean
    /** Its body has no end, so no time is set for its arrival. */
    streamsBody?: boolean
  }
}

export interface ServerOptions {
  logger: Logger
  bodyLimitBytes: number
  validation: Validation
  isShuttingDown(): boolean
  onAnswered(method: string, route: string, status: number, seconds: number): void
}

/** Time for a body to arrive, and for the headers. */
const BODY_TIMEOUT_MS = 60_000
const HEADERS_TIMEOUT_MS = 15_000
/** What answers during shutdown too. */
const TO_THE_LAST = new Set(['/livez', '/readyz', '/metrics'])
/** Answers are data for those who asked, never a page or part of one. What is a page says so itself. */
const SECURITY_HEADERS = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}
const METHODS: HTTPMethods[] = ['GET', 'POST', 'DELETE']

/** A Fastify instance without routes whose every answer to bad input is a problem document. */
export function createServer({ logger, bodyLimitBytes, validation, isShuttingDown, onAnswered }: ServerOptions): FastifyInstance {
  const turns = new Turns()
  const app = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: bodyLimitBytes,
    // Node knows only one for all routes, but some bodies have no end.
    requestTimeout: 0,
    // Its own answer is no problem document.
    return503OnClosing: false,
    // Node would answer one without Host itself, and begin what is behind it all the same.
    http: { headersTimeout: HEADERS_TIMEOUT_MS, requireHostHeader: false },
    routerOptions: { querystringParser: parseQuery },
    frameworkErrors: (error, request, reply) => turns.begin(request.raw, reply.raw, () => void sendProblem(asProblem(error), reply)),
    clientErrorHandler: (error, socket) => turns.refuse(socket as Socket, error.code),
  })
  // Node would answer with a 417 of its own; a server may ignore what it does not know (RFC 9110 section 10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  app.addSchema(ProblemSchema)
  app.setValidatorCompiler(validation.validatorCompiler)
  app.setSchemaErrorFormatter(validation.schemaErrorFormatter)
  app.setErrorHandler(handleError)
  app.setNotFoundHandler((request, reply) => {
    const url = request.url.split('?', 1)[0]!
    const allowed = METHODS.filter((method) => app.hasRoute({ method, url }))
    if (allowed.length === 0) return sendProblem(new CausewayError('not-found', `There is nothing at ${url}`), reply)
    reply.header('allow', allowed.join(', '))
    return sendProblem(new CausewayError('method-not-allowed', `${url} takes ${allowed.join(' and ')}`), reply)
  })
  // Hooks that wait for nothing take `done`: a promise for each of them, for each request, is what they would cost.
  app.addHook('onRequest', (request, reply, done) => turns.begin(request.raw, reply.raw, done))
  app.addHook('onRequest', (request, reply, done) => {
    const fault = hostFault(request.raw)
    // The connection of one that asks for an upgrade is good for nothing else.
    if (fault !== undefined || request.headers.upgrade !== undefined) reply.header('connection', 'close')
    reply.headers(SECURITY_HEADERS)
    if (fault !== undefined) return done(new CausewayError('invalid-request', fault))
    // Connections that are open bring further requests.
    if (isShuttingDown() && !TO_THE_LAST.has(request.routeOptions.url ?? '')) {
      return done(new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 }))
    }
    if (request.method !== 'GET' && !request.routeOptions.config.streamsBody) limitBodyTime(request.raw, () => turns.refuse(request.raw.socket, 'ERR_HTTP_REQUEST_TIMEOUT'))
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const { url, config } = request.routeOptions
    if (!config.stream || reply.statusCode !== 200) onAnswered(request.method, url ?? 'none', reply.statusCode, reply.elapsedTime / 1000)
    done()
  })
  return app
}

function limitBodyTime(raw: IncomingMessage, giveUp: () => void): void {
  const timer = setTimeout(giveUp, BODY_TIMEOUT_MS)
  const clear = () => clearTimeout(timer)
  raw.once('end', clear).once('close', clear)
}

/**
 * In a query `+` means `+` (RFC 3986), not a space as in HTML forms: it is a wildcard here.
 * What is not percent-encoded UTF-8 becomes a lone surrogate, which no parameter may hold: replaced by U+FFFD, as
 * `URLSearchParams` does, it would name another topic than the caller's.
 */
function parseQuery(query: string): Record<string, string | string[]> {
  const result: Record<string, string | string[]> = Object.create(null)
  for (const pair of query.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decode(equals < 0 ? pair : pair.slice(0, equals))
    const value = decode(equals < 0 ? '' : pair.slice(equals + 1))
    const earlier = result[name]
    result[name] = earlier === undefined ? value : [earlier, value].flat()
  }
  return result
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return `${text}\ud800`
  }
}
