import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type HTTPMethods,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import { CausewayError } from '../../errors.ts'
import { escapeLineSeparators } from '../../json-text.ts'
import { asProblem, handleError, sendProblem } from '../message/problem.ts'
import { parseQuery } from '../message/query.ts'
import { ProblemSchema } from '../message/schemas.ts'
import type { Validation } from '../message/validation.ts'
import { BodyDeadline } from './body-deadline.ts'
import { wasAborted } from './disconnects.ts'
import { limitHeaders } from './header-limit.ts'
import { hostFault } from './host-header.ts'
import { type HeaderLimits, http1Options } from './http1-options.ts'
import { Pipelining } from './pipelining.ts'
import type { SecureServer } from './secure-server.ts'
import { requireWholeBodies } from './whole-body.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route's 200 is a stream, and the route itself reports how long the stream took to start. */
    stream?: boolean
    /** The route's body may last for ever, so no deadline applies to it. */
    streamsBody?: boolean
  }
}

export interface ServerOptions {
  logger: Logger
  limits: ServerLimits
  /** Addresses of the proxies whose X-Forwarded-For is believed, with commas. */
  trustProxy?: string | undefined
  validation: Validation
  /** Without it the server speaks plain HTTP/1.1. */
  secure?: SecureServer | undefined
  isShuttingDown(): boolean
  /** Called for each answer, but for streams that started. `route` is the pattern, or `none` where no route matched. */
  onAnswered(method: string, route: string, status: number, seconds: number): void
  /** Called for each connection that was closed because there were too many. */
  onDropped(): void
}

export interface ServerLimits extends HeaderLimits {
  /** Most open connections. */
  connections: number
  /** Time for the body of a request to arrive. */
  bodyTimeoutMs: number
  bodyBytes: number
  /** A client that has read nothing of its answer for this long is disconnected. */
  stallMs: number
}

/** An answer up to this size fits into any socket's send buffer, even if the client does not read. */
const SOCKET_BUFFER_BYTES = 16_384
const SERVED_DURING_SHUTDOWN = new Set(['/livez', '/readyz', '/metrics'])
/** Answers are data, never a page or a part of one. The routes of pages override these headers. */
const SECURITY_HEADERS = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}
const METHODS: HTTPMethods[] = ['GET', 'POST', 'DELETE']

/** A Fastify instance without routes, whose every answer to bad input is a problem document. */
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
  const pipelining = new Pipelining()
  const bodyDeadline = new BodyDeadline(limits.bodyTimeoutMs, (socket) =>
    pipelining.closeWithProblem(socket, 'ERR_HTTP_REQUEST_TIMEOUT'),
  )
  const app = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    // A child logger for each request would cost as much as its routing, only to log a request id that nothing uses.
    childLoggerFactory: (parent) => parent,
    bodyLimit: limits.bodyBytes,
    trustProxy: trustProxy ?? false,
    // Node's timeout is one for all routes, but some bodies may last for ever. BodyDeadline replaces it.
    requestTimeout: 0,
    // Fastify's own 503 is no problem document.
    return503OnClosing: false,
    ...(secure === undefined ? { http: http1Options(limits) } : overTls(secure, limits)),
    routerOptions: { querystringParser: parseQuery },
    frameworkErrors: (error, request, reply) =>
      pipelining.waitForEarlier(request.raw, reply.raw, () => void sendProblem(asProblem(error), reply)),
    clientErrorHandler(error, socket) {
      // After a TLS error nothing can be sent. An answer would wait for the handshake and keep the socket open.
      if (/^ERR_(TLS|SSL|OSSL)_/.test(error.code ?? '')) socket.destroy()
      else pipelining.closeWithProblem(socket as Socket, error.code)
    },
  })
  app.server.maxConnections = limits.connections
  app.server.on('drop', onDropped)
  // Node would answer 417 by itself. A server may ignore expectations it does not know (RFC 9110 section 10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  app.addSchema(ProblemSchema)
  app.setValidatorCompiler(validation.validatorCompiler)
  app.setSchemaErrorFormatter(validation.schemaErrorFormatter)
  app.setErrorHandler(handleError)
  app.setNotFoundHandler((request, reply) => answerNotFound(app, request, reply))

  // The hooks of every request, in the order in which they run. Those that wait for nothing take `done`: an async hook
  // would cost a promise for each request.
  if (secure !== undefined) {
    limitHeaders(app, limits.headersBytes)
    requireWholeBodies(app, ({ routeOptions }) => (routeOptions.config.streamsBody ? undefined : limits.bodyTimeoutMs))
  }
  app.addHook('onRequest', (request, reply, done) => pipelining.waitForEarlier(request.raw, reply.raw, done))
  app.addHook('onRequest', (request, reply, done) => {
    const fault = hostFault(request.raw)
    // Node does not read on after a request with Upgrade, so the connection cannot carry another one.
    if (fault !== undefined || request.headers.upgrade !== undefined) reply.header('connection', 'close')
    reply.headers(SECURITY_HEADERS)
    if (fault !== undefined) return done(new CausewayError('invalid-request', fault))
    // The listener is closed during shutdown, but open connections still bring requests.
    if (isShuttingDown() && !SERVED_DURING_SHUTDOWN.has(request.routeOptions.url ?? '')) {
      return done(
        new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 }),
      )
    }
    if (request.method !== 'GET' && !request.routeOptions.config.streamsBody && request.raw.httpVersionMajor === 1) {
      bodyDeadline.start(request.raw)
    }
    done()
  })
  app.addHook('onSend', (_request, reply, payload, done) => {
    const { raw } = reply
    // A short answer on an empty socket is sent at once, so it needs no timer.
    const mayStall =
      (typeof payload === 'string' || Buffer.isBuffer(payload)) &&
      (payload.length > SOCKET_BUFFER_BYTES || (raw.socket?.writableLength ?? 0) > 0)
    if (mayStall) raw.setTimeout(limits.stallMs, () => raw.destroy())
    const isJson = typeof payload === 'string' && /json/.test(reply.getHeader('content-type') as string)
    done(null, isJson ? escapeLineSeparators(payload) : payload)
  })
  app.addHook('onResponse', (request, reply, done) => {
    pipelining.finish(reply.raw)
    const { url, config } = request.routeOptions
    if (!wasAborted(reply) && (!config.stream || reply.statusCode !== 200)) {
      onAnswered(request.method, url ?? 'none', reply.statusCode, reply.elapsedTime / 1000)
    }
    done()
  })
  return app
}

/** 405 with `Allow` where the path has routes for other methods, 404 where it has none. */
function answerNotFound(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const url = request.url.split('?', 1)[0]!
  // `hasRoute` takes a route pattern, and throws if the path happens to be a malformed one.
  const allowed = /^\/[\w./-]*$/.test(url) ? METHODS.filter((method) => app.hasRoute({ method, url })) : []
  if (allowed.length === 0) return sendProblem(new CausewayError('not-found', `There is nothing at ${url}`), reply)
  reply.header('allow', allowed.join(', '))
  return sendProblem(new CausewayError('method-not-allowed', `${url} supports only ${allowed.join(' and ')}`), reply)
}

/** Fastify has separate types for HTTP/2. Its requests and replies behave the same in all that is used here. */
function overTls(secure: SecureServer, limits: HeaderLimits): Pick<FastifyHttpOptions<Server>, 'http'> {
  return {
    http2: true,
    https: { allowHTTP1: true },
    serverFactory: (handler: never) => secure.create(handler, limits),
  } as object
}
