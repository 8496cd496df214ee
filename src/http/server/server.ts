import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
  type HTTPMethods,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import { CausewayError } from '../../errors.ts'
import { wasAborted } from './disconnects.ts'
import { limitHeaders } from './header-limit.ts'
import { hostFault } from './host-header.ts'
import { type HeadLimits, http1Options } from './http1-options.ts'
import { BodyDeadline } from './body-deadline.ts'
import { asProblem, handleError, sendProblem } from '../message/problem.ts'
import { parseQuery } from '../message/query.ts'
import { ProblemSchema } from '../message/schemas.ts'
import type { SecureServer } from './secure-server.ts'
import { Pipelining } from './pipelining.ts'
import type { Validation } from '../message/validation.ts'
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
  secure?: SecureServer | undefined
  isShuttingDown(): boolean
  onAnswered(method: string, route: string, status: number, seconds: number): void
  /** Called for each connection that was one too many. */
  onDropped(): void
}

export interface ServerLimits extends HeadLimits {
  /** Open at once. */
  connections: number
  /** Time for the body of a request to arrive. */
  bodyMs: number
  bodyBytes: number
  /** How long a client may read nothing of its answer. */
  unreadMs: number
}

/** What any socket takes without anybody reading. */
const AT_ONCE_BYTES = 16_384
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
export function createServer({
  logger,
  limits,
  trustProxy,
  validation,
  secure,
  isShuttingDown,
  onAnswered,
  onDropped,
}: ServerOptions): FastifyInstance {
  const turns = new Pipelining()
  const bodies = new BodyDeadline(limits.bodyMs, (socket) => turns.refuse(socket, 'ERR_HTTP_REQUEST_TIMEOUT'))
  const app = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    // A logger for each request would cost as much as its routing, for an id that nothing else is logged with.
    childLoggerFactory: (parent) => parent,
    bodyLimit: limits.bodyBytes,
    trustProxy: trustProxy ?? false,
    // Node knows only one for all routes, but some bodies have no end.
    requestTimeout: 0,
    // Its own answer is no problem document.
    return503OnClosing: false,
    ...(secure === undefined ? { http: http1Options(limits) } : overTls(secure, limits)),
    routerOptions: { querystringParser: parseQuery },
    frameworkErrors: (error, request, reply) =>
      turns.begin(request.raw, reply.raw, () => void sendProblem(asProblem(error), reply)),
    clientErrorHandler(error, socket) {
      // Without TLS there is nothing to answer over; the answer would wait for the handshake, and the socket with it.
      if (/^ERR_(TLS|SSL|OSSL)_/.test(error.code ?? '')) socket.destroy()
      else turns.refuse(socket as Socket, error.code)
    },
  })
  app.server.maxConnections = limits.connections
  app.server.on('drop', onDropped)
  // Node would answer with a 417 of its own; a server may ignore what it does not know (RFC 9110 section 10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
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
  app.addHook('onRequest', (request, reply, done) => turns.begin(request.raw, reply.raw, done))
  app.addHook('onRequest', (request, reply, done) => {
    const fault = hostFault(request.raw)
    // The connection of one that asks for an upgrade is good for nothing else.
    if (fault !== undefined || request.headers.upgrade !== undefined) reply.header('connection', 'close')
    reply.headers(SECURITY_HEADERS)
    if (fault !== undefined) return done(new CausewayError('invalid-request', fault))
    // Connections that are open bring further requests.
    if (isShuttingDown() && !TO_THE_LAST.has(request.routeOptions.url ?? '')) {
      return done(
        new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 }),
      )
    }
    if (request.method !== 'GET' && !request.routeOptions.config.streamsBody && request.raw.httpVersionMajor === 1) {
      bodies.expect(request.raw)
    }
    done()
  })
  app.addHook('onSend', (_request, { raw }, payload, done) => {
    // What is shorter leaves at once, unless something before it did not.
    const mayWait =
      (typeof payload === 'string' || Buffer.isBuffer(payload)) &&
      (payload.length > AT_ONCE_BYTES || (raw.socket?.writableLength ?? 0) > 0)
    if (mayWait) raw.setTimeout(limits.unreadMs, () => raw.destroy())
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    turns.end(reply.raw)
    const { url, config } = request.routeOptions
    if (!wasAborted(reply) && (!config.stream || reply.statusCode !== 200)) {
      onAnswered(request.method, url ?? 'none', reply.statusCode, reply.elapsedTime / 1000)
    }
    done()
  })
  return app
}

/** The types of Fastify know HTTP/2 as something else altogether, but requests and replies are the same to all that is here. */
function overTls(secure: SecureServer, limits: HeadLimits): Pick<FastifyHttpOptions<Server>, 'http'> {
  return {
    http2: true,
    https: { allowHTTP1: true },
    serverFactory: (handler: never) => secure.create(handler, limits),
  } as object
}
