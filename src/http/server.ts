import type { IncomingMessage, Server } from 'node:http'
import fastify, { type FastifyBaseLogger, type FastifyHttpOptions, type FastifyInstance, type HTTPMethods, LogController } from 'fastify'
import type { Logger } from 'pino'
import { CausewayError } from '../errors.ts'
import { wasCutOff } from './has-left.ts'
import { limitHeaders } from './header-limit.ts'
import { asProblem, handleError, rawProblem, sendProblem } from './problem.ts'
import { ProblemSchema } from './schemas.ts'
import type { SecureServers } from './secure-servers.ts'
import type { Validation } from './validation.ts'
import { requireWholeBodies } from './whole-body.ts'

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
  limits: ServerLimits
  /** Addresses of the proxies that are believed about who calls. */
  trustProxy?: string | undefined
  validation: Validation
  /** Plain HTTP/1.1 without. */
  secure?: SecureServers | undefined
  isShuttingDown(): boolean
  onAnswered(method: string, route: string, status: number, seconds: number): void
  /** Called for each connection that was one too many. */
  onDropped(): void
}

export interface ServerLimits {
  /** Open at once. */
  connections: number
  headersBytes: number
  /** Time for the head of a request to arrive, and for its body. */
  headersMs: number
  bodyMs: number
  bodyBytes: number
}

/** How often Node looks for heads that are late. */
const LATE_CHECK_MS = 5000
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
export function createServer({ logger, limits, trustProxy, validation, secure, isShuttingDown, onAnswered, onDropped }: ServerOptions): FastifyInstance {
  const app = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    trustProxy: trustProxy ?? false,
    // Node knows only one for all routes, but some bodies have no end.
    requestTimeout: 0,
    // Its own answer is no problem document.
    return503OnClosing: false,
    ...(secure === undefined ? { http: { headersTimeout: limits.headersMs, maxHeaderSize: limits.headersBytes, connectionsCheckingInterval: Math.min(LATE_CHECK_MS, limits.headersMs) } } : overTls(secure)),
    routerOptions: { querystringParser: parseQuery },
    frameworkErrors: (error, _request, reply) => void sendProblem(asProblem(error), reply),
    clientErrorHandler(error, socket) {
      // Without TLS there is nothing to answer over; the answer would wait for the handshake, and the socket with it.
      const isHandshake = /^ERR_(TLS|SSL|OSSL)_/.test(error.code ?? '')
      if (socket.writable && !isHandshake) socket.end(rawProblem(error.code))
      else socket.destroy()
    },
  })
  app.server.maxConnections = limits.connections
  app.server.on('drop', onDropped)
  app.addSchema(ProblemSchema)
  app.setValidatorCompiler(validation.validatorCompiler)
  app.setSchemaErrorFormatter(validation.schemaErrorFormatter)
  app.setErrorHandler(handleError)
  app.setNotFoundHandler((request, reply) => {
    const url = request.url.split('?', 1)[0]!
    // What reads as a malformed route pattern would make the router throw.
    const allowed = /^\/[\w./-]*$/.test(url) ? METHODS.filter((method) => app.hasRoute({ method, url })) : []
    if (allowed.length === 0) return sendProblem(new CausewayError('not-found', `There is nothing at ${url}`), reply)
    reply.header('allow', allowed.join(', '))
    return sendProblem(new CausewayError('method-not-allowed', `${url} takes ${allowed.join(' and ')}`), reply)
  })
  if (secure !== undefined) {
    limitHeaders(app, limits.headersBytes)
    requireWholeBodies(app, ({ routeOptions }) => (routeOptions.config.streamsBody ? undefined : limits.bodyMs))
  }
  // Hooks that wait for nothing take `done`: a promise for each of them, for each request, is what they would cost.
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(SECURITY_HEADERS)
    // Connections that are open bring further requests.
    if (isShuttingDown() && !TO_THE_LAST.has(request.routeOptions.url ?? '')) {
      return done(new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 }))
    }
    if (request.method !== 'GET' && !request.routeOptions.config.streamsBody && request.raw.httpVersionMajor === 1) limitBodyTime(request.raw, limits.bodyMs)
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const { url, config } = request.routeOptions
    if (!wasCutOff(reply) && (!config.stream || reply.statusCode !== 200)) onAnswered(request.method, url ?? 'none', reply.statusCode, reply.elapsedTime / 1000)
    done()
  })
  return app
}

/** The types of Fastify know HTTP/2 as something else altogether, but requests and replies are the same to all that is here. */
function overTls(secure: SecureServers): Pick<FastifyHttpOptions<Server>, 'http'> {
  return { http2: true, https: { allowHTTP1: true }, serverFactory: (handler: never) => secure.create(handler) } as object
}

function limitBodyTime(raw: IncomingMessage, timeoutMs: number): void {
  const timer = setTimeout(() => raw.socket.end(rawProblem('ERR_HTTP_REQUEST_TIMEOUT')), timeoutMs)
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
