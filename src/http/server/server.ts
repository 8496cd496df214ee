import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
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
import { toJson } from '../../json-text.ts'
import type { MemoryShare } from '../../memory/account.ts'
import type { RequestTrace, Tracing } from '../../tracing/tracing.ts'
import { sampledTraceId } from '../../trace-context.ts'
import { asProblem, handleError, sendProblem } from '../message/problem.ts'
import { createQueryParser, TOO_MANY_PARAMETERS } from '../message/query.ts'
import { ProblemSchema } from '../message/schemas.ts'
import { schemaController } from '../message/schema-controller.ts'
import { inPieces, PIECE_BYTES, releaseWithAnswer } from '../message/send-pieces.ts'
import type { Validation } from '../message/validation.ts'
import { acceptElsewhere, type Acceptor } from './accepted-elsewhere.ts'
import { BodyDeadline } from './body-deadline.ts'
import { closeListener } from '../../close-listener.ts'
import { ChunkFrames } from './chunk-frames.ts'
import { Connections } from './connections.ts'
import { isWhole, wasAborted } from './disconnects.ts'
import { discardRest, isBodyArriving, lingerBeforeClose, throwAway } from './early-answer.ts'
import { holdHeaders, limitHeaders } from './header-limit.ts'
import { hostFault } from './host-header.ts'
import { type Http1Limits, http1Options } from './http1-options.ts'
import { Pipelining } from './pipelining.ts'
import { wholeBody } from './read-body.ts'
import { createRequestIds } from './request-id.ts'
import { Response } from './response.ts'
import type { SecureServer } from './secure-server.ts'
import { StalledAnswers } from './stalled-answers.ts'
import { requireWholeBodies } from './whole-body.ts'

// What is added to requests is not declared to Fastify with `decorateRequest`: Fastify would set each member of each
// request by a name that V8 does not know when it compiles, which was 2 % of a publish.
declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route's 200 is a stream, and the route itself reports how long the stream took to start. */
    stream?: boolean
    /** The route's body may last for ever, so no deadline applies to it. */
    streamsBody?: boolean
  }
  interface FastifyRequest {
    /** IP address of the caller. `ip` looks at the socket, or at all of X-Forwarded-For, for whoever asks. */
    address: string
    /** What may be held for the caller: of its address until it is authenticated, then of its identity. */
    share: MemoryShare
    /** Its span, while traces are recorded. */
    trace: RequestTrace | undefined
    /** The connection cannot carry another request, so its answer is the last one. */
    isLast?: boolean
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
  /** Without it the server accepts its connections itself. */
  acceptor?: Acceptor | undefined
  /** Without it no traces are recorded. */
  tracing?: Tracing | undefined
  /** The share of memory of an address. */
  shareOf(address: string): MemoryShare
  /** Whether the process is asked to end. Everything is still served, and each answer closes its connection. */
  isDraining(): boolean
  isShuttingDown(): boolean
  /** Called for each answer, but for streams that started. */
  onAnswered(answer: Answered): void
  /** Called for each route when it is added, with the statuses that it is documented to answer with. */
  onRoute(method: string, route: string, statuses: readonly number[]): void
  /** Called for each connection that was closed because there were too many, in all or of its address. */
  onDropped(limit: 'connections' | 'connections-address'): void
}

export interface Answered {
  method: string
  /** The pattern of the route, or `none` where no route matched. */
  route: string
  status: number
  /** Since the request came. */
  seconds: number
  requestId: string
  /** Of the sampled trace that the request belongs to, if there is one. */
  traceId: string | undefined
}

export interface ServerLimits extends Http1Limits {
  /** Most open connections. */
  connections: number
  /** Most open connections of one address; 0 for no limit. */
  connectionsPerAddress: number
  /** Time for the body of a request to arrive. */
  bodyTimeoutMs: number
  bodyBytes: number
  /** Most parameters in a query. */
  parameters: number
  /** A client that has read nothing of its answer for this long is disconnected. */
  stallMs: number
}

/** Stands for the route in metrics where none matches. */
const NO_ROUTE = 'none'
const SERVED_DURING_SHUTDOWN = new Set(['/livez', '/readyz', '/metrics'])
/** Answers are data, never a page or a part of one. The routes of pages have a policy of their own. */
const POLICY = { 'content-security-policy': "default-src 'none'; frame-ancestors 'none'" }
const SECURITY_HEADERS = {
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}
const POLICY_LINE = linesOf(POLICY)
const SECURITY_LINES = linesOf(SECURITY_HEADERS)
const METHODS: HTTPMethods[] = ['GET', 'POST', 'DELETE']
/** The methods that Fastify knows. */
const KNOWN_METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'])

/** A Fastify instance without routes, whose every answer to bad input is a problem document. */
export function createServer({
  logger,
  limits,
  trustProxy,
  validation,
  secure,
  acceptor,
  tracing,
  shareOf,
  isDraining,
  isShuttingDown,
  onAnswered,
  onRoute,
  onDropped,
}: ServerOptions): FastifyInstance {
  const pipelining = new Pipelining()
  const bodyDeadline = new BodyDeadline(limits.bodyTimeoutMs, (socket) =>
    pipelining.closeWithProblem(socket, 'ERR_HTTP_REQUEST_TIMEOUT'),
  )
  const stalled = new StalledAnswers(limits.stallMs, (socket) => pipelining.isStream(socket))
  const connections = new Connections({
    perAddress: limits.connectionsPerAddress,
    trustProxy,
    onRefused: () => onDropped('connections-address'),
  })
  const isLoggingRequests = logger.isLevelEnabled('debug')
  const app = fastify({
    loggerInstance: withoutChildren(logger),
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: createRequestIds(),
    bodyLimit: limits.bodyBytes,
    trustProxy: trustProxy ?? false,
    // Node's timeout is one for all routes, but some bodies may last for ever. BodyDeadline replaces it.
    requestTimeout: 0,
    // Fastify's own 503 is no problem document.
    return503OnClosing: false,
    ...withListener(secure, limits),
    routerOptions: { querystringParser: createQueryParser(limits.parameters) },
    schemaController: schemaController(validation.validatorCompiler),
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id)
      watchHttp2(request, reply)
      pipelining.waitForEarlier(request.raw, reply.raw, () => void sendProblem(asProblem(error), reply))
    },
    clientErrorHandler(error, socket) {
      // After a TLS error nothing can be sent. An answer would wait for the handshake and keep the socket open.
      if (/^ERR_(TLS|SSL|OSSL)_/.test(error.code ?? '')) socket.destroy()
      else pipelining.closeWithProblem(socket as Socket, error.code)
    },
  })
  const { server } = app
  server.maxConnections = limits.connections
  server.on('drop', () => onDropped('connections'))
  if (acceptor !== undefined) acceptElsewhere(server, acceptor)
  connections.track(server)
  server.on(secure === undefined ? 'connection' : 'secureConnection', (socket: Socket) =>
    stalled.watchConnection(socket),
  )
  // Node would answer 417 by itself. A server may ignore expectations it does not know (RFC 9110 section 10.1.1).
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    continueWhenRead(request, response)
    server.emit('request', request, response)
  })
  app.addSchema(ProblemSchema)
  app.setSchemaErrorFormatter(validation.schemaErrorFormatter)
  app.setReplySerializer(toJson)
  app.setErrorHandler(handleError)
  app.setNotFoundHandler((request, reply) => answerNotFound(app, request, reply))
  app.removeAllContentTypeParsers()
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.addContentTypeParser(
    'application/json',
    wholeBody(app, (request, body, done) => void parseJson(request, body.toString(), done)),
  )
  for (const method of METHODS) onRoute(method as string, NO_ROUTE, [404, 405])
  app.addHook('onRoute', (route) => {
    const { method, url, schema, config } = route
    const statuses = Object.keys((schema?.response ?? {}) as object).map(Number)
    for (const one of [method].flat()) onRoute(one, url, statuses.filter(Number.isInteger))
    // Hooks of each route, since `routeOptions` is an object with 13 members that Fastify makes for whoever asks.
    if (config?.streamsBody) {
      route.onRequest = [
        ...[route.onRequest ?? []].flat(),
        ({ raw }: FastifyRequest, _reply: FastifyReply, done: () => void) => {
          bodyDeadline.forget(raw.socket)
          done()
        },
      ]
    }
    route.onResponse = [
      ...[route.onResponse ?? []].flat(),
      (request: FastifyRequest, reply: FastifyReply, done: () => void) => {
        if (!config?.stream || reply.statusCode !== 200) countAnswer(url, request, reply)
        done()
      },
    ]
  })
  const frames = new ChunkFrames()
  app.addHook('onRoute', (route) => {
    if (!route.config?.stream) return
    route.onRequest = [
      ...[route.onRequest ?? []].flat(),
      (request: FastifyRequest, reply: FastifyReply, done: () => void) => {
        pipelining.beginStream(request.raw, reply.raw)
        const raw: unknown = reply.raw
        if (raw instanceof Response) raw.frames = frames
        done()
      },
    ]
  })
  app.addHook('preClose', async () => {
    await (acceptor === undefined ? closeListener(server, () => connections.taken) : acceptor.stopListening())
    await connections.firstRequests()
    void connections.closeUnused((socket) => pipelining.isIdle(socket))
  })

  function watchHttp2({ raw }: FastifyRequest, reply: FastifyReply): void {
    if (raw.httpVersionMajor === 2) stalled.watchAnswer((reply.raw as unknown as { stream: ServerHttp2Stream }).stream)
  }

  // The hooks of every request, in the order in which they run. Those that wait for nothing take `done`: an async hook
  // would cost a promise for each request.
  app.addHook('onRequest', (request, reply, done) => {
    request.address = request.ip
    request.share = shareOf(request.address)
    if (tracing !== undefined) request.trace = trace(tracing, request, reply)
    // `onResponse` does not come where the client leaves first, as it does with most streams.
    if (isLoggingRequests) reply.raw.once('close', () => logRequest(logger, request, reply))
    pipelining.waitForEarlier(request.raw, reply.raw, done)
  })
  if (secure !== undefined) {
    holdHeaders(app)
    limitHeaders(app, limits.headersBytes)
    requireWholeBodies(app, ({ routeOptions }) => (routeOptions.config.streamsBody ? undefined : limits.bodyTimeoutMs))
  }
  app.addHook('onRequest', (request, reply, done) => {
    const { headers } = request.raw
    const coding = headers['transfer-encoding']
    const fault = hostFault(request.raw)
    // Node answers itself where the last coding is not chunked: the end of such a body cannot be found.
    const isCodingKnown = coding === undefined || !/,\s*chunked\s*$/i.test(coding)
    // Node does not read on after a request with Upgrade, so the connection cannot carry another one.
    if (fault !== undefined || headers.upgrade !== undefined || !isCodingKnown) {
      request.isLast = true
      reply.header('connection', 'close')
    }
    addReadyHeaders(request, reply)
    if (fault !== undefined) return done(new CausewayError('invalid-request', fault))
    if (!isCodingKnown && request.raw.httpVersionMajor === 1) {
      return done(
        new CausewayError('transfer-coding-not-supported', 'The only transfer coding that is supported is chunked'),
      )
    }
    if (request.query === TOO_MANY_PARAMETERS) {
      return done(new CausewayError('invalid-request', `The query has more than ${limits.parameters} parameters`))
    }
    // The listener is closed during shutdown, but open connections still bring requests.
    if (isShuttingDown() && !SERVED_DURING_SHUTDOWN.has(request.routeOptions.url ?? '')) {
      return done(
        new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 }),
      )
    }
    if (request.method !== 'GET' && request.raw.httpVersionMajor === 1) bodyDeadline.start(request.raw)
    done()
  })
  app.addHook('onSend', (request, reply, payload, done) => {
    if (request.raw.httpVersionMajor === 2) {
      watchHttp2(request, reply)
      // HTTP/2 has no such header, and Node warns of it.
      reply.removeHeader('connection')
    } else {
      if (request.isLast || isDraining()) reply.header('connection', 'close')
      // Fastify closes the connection where it does not read a body. Most are short enough to be read and thrown away.
      else if (reply.statusCode >= 400 && reply.statusCode !== 413 && reply.raw.shouldKeepAlive) {
        if (reply.hasHeader('connection')) reply.header('connection', 'keep-alive')
      }
      if (isBodyArriving(request.raw)) {
        lingerBeforeClose(request.raw)
        if (!request.routeOptions.config.streamsBody || reply.statusCode >= 400) throwAway(request.raw)
      }
    }
    if ((typeof payload === 'string' || Buffer.isBuffer(payload)) && payload.length > PIECE_BYTES) {
      return sendLarge(request, reply, payload, done)
    }
    done(null, payload)
  })
  app.addHook('onResponse', (request, reply, done) => {
    pipelining.finish(reply.raw)
    if (request.raw.httpVersionMajor === 1) finishConnection(request.raw, reply.raw)
    if (request.is404) countAnswer(NO_ROUTE, request, reply)
    done()
  })

  function countAnswer(route: string, request: FastifyRequest, reply: FastifyReply): void {
    if (wasAborted(reply)) return
    const { method, id: requestId } = request
    const { statusCode: status, elapsedTime } = reply
    const traceId = request.trace?.traceId ?? sampledTraceId(request.headers['traceparent'])
    onAnswered({ method, route, status, seconds: elapsedTime / 1000, requestId, traceId })
  }

  function finishConnection(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    if (!response.shouldKeepAlive) return
    if (isBodyArriving(request)) discardRest(request)
    // An answer that was begun before the shutdown did not say that it closes the connection.
    else if (isShuttingDown() && pipelining.isIdle(socket)) socket.destroySoon()
  }

  return app
}

/**
 * A logger that is its own child: one for each request would cost as much as its routing, and Fastify looks for seven
 * methods in each that it gets from a factory of ours. Lines about requests name the id themselves.
 */
function withoutChildren(logger: Logger): FastifyBaseLogger {
  return Object.create(logger, {
    child: {
      value(this: FastifyBaseLogger) {
        return this
      },
    },
  }) as FastifyBaseLogger
}

/** The span of a request, which ends with the connection or the last byte of the answer. */
function trace(tracing: Tracing, { method, headers, routeOptions }: FastifyRequest, reply: FastifyReply): RequestTrace {
  const span = tracing.request(method, headers)
  reply.raw.once('close', () => {
    span.end({ route: routeOptions.url ?? NO_ROUTE, status: reply.statusCode, isCutOff: !isWhole(reply) })
  })
  return span
}

/** One line about a request that is over, without its URL: a query may have a token in it. */
function logRequest(logger: Logger, { id, method, routeOptions }: FastifyRequest, reply: FastifyReply): void {
  const { statusCode: status, elapsedTime } = reply
  const route = routeOptions.url ?? NO_ROUTE
  const isCutOff = !isWhole(reply)
  logger.debug(
    { requestId: id, method, route, status, ms: Math.round(elapsedTime), ...(isCutOff && { isCutOff }) },
    'request',
  )
}

/** The headers of every answer. */
function addReadyHeaders({ id }: FastifyRequest, reply: FastifyReply): void {
  const { raw } = reply as { raw: unknown }
  if (raw instanceof Response) {
    raw.readyPolicy = POLICY_LINE
    raw.readyLines = `${SECURITY_LINES}x-request-id: ${id}\r\n`
  } else {
    // HTTP/2 has no lines.
    reply.headers({ ...POLICY, ...SECURITY_HEADERS, 'x-request-id': id })
  }
}

function linesOf(headers: Record<string, string>): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
}

/** Makes an answer a stream of pieces, so that little is written and not read. All of it is held in the account. */
function sendLarge(
  { share }: FastifyRequest,
  reply: FastifyReply,
  payload: string | Buffer,
  done: (error: Error | null, payload?: unknown) => void,
): void {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
  const held = share.hold('answers')
  if (!held.grow(bytes.length)) {
    return done(new CausewayError('overloaded', 'Too many answers are not read yet', { retryAfter: 1 }))
  }
  releaseWithAnswer(held, reply)
  reply.header('content-length', bytes.length)
  done(null, inPieces(bytes))
}

/**
 * Answers `Expect: 100-continue` with 100 only when somebody begins to read the body. A request that is refused by its
 * headers gets its final status at once, and the client need not send the body.
 */
function continueWhenRead(request: IncomingMessage, response: ServerResponse): void {
  function onListener(event: string | symbol): void {
    if (event !== 'data' && event !== 'readable') return
    // A body that is refused is only thrown away.
    if (response.statusCode >= 400) return
    request.off('newListener', onListener)
    if (!response.headersSent && !response.destroyed) response.writeContinue()
  }
  request.on('newListener', onListener)
}

/** Answers what no route is for, before its body is read. To be called after the hooks that have to run first. */
export function refuseUnknown(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.is404) void answerNotFound(app, request, reply)
    else done()
  })
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

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** Fastify has separate types for HTTP/2. Its requests and replies behave the same in all that is used here. */
function withListener(secure: SecureServer | undefined, limits: ServerLimits): object {
  const serverFactory = (handler: Handler): unknown => {
    // Fastify logs a long warning for a method that it does not know. TRACE is known and has no route.
    const known: Handler = (request, response) => {
      if (!KNOWN_METHODS.has(request.method!)) request.method = 'TRACE'
      handler(request, response)
    }
    return secure === undefined
      ? createHttpServer({ ...http1Options(limits), ServerResponse: Response, requestTimeout: 0 }, known)
      : secure.create(known as never, limits)
  }
  const options = secure === undefined ? {} : { http2: true, https: { allowHTTP1: true } }
  return { ...options, serverFactory } satisfies Pick<FastifyHttpOptions<Server>, never>
}
