import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { createAccess } from '../links/access.ts'
import type { Identity } from '../auth/identity.ts'
import type { Config } from '../config/config.ts'
import { type AuthenticationOptions, requireIdentity } from './guard/authentication.ts'
import { batchRoutes } from './routes/batch.ts'
import { cookieRoutes } from './routes/cookie.ts'
import { allowOrigins } from './guard/cors.ts'
import { docs } from './routes/docs.ts'
import { healthRoutes } from './routes/health.ts'
import { createOnce } from './message/idempotency.ts'
import { MemoryStore } from './message/idempotency-memory.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { publishRoutes } from './routes/publish.ts'
import { requestRoutes } from './routes/request.ts'
import { RequestLimits } from './guard/request-limits.ts'
import { retainedRoutes } from './routes/retained.ts'
import { MessageSchema } from './message/schemas.ts'
import type { SecureServer } from './server/secure-server.ts'
import { createServer } from './server/server.ts'
import { sessionRoutes } from './routes/sessions.ts'
import { StreamLimit } from './guard/stream-limit.ts'
import { subscribeRoutes } from './routes/subscribe.ts'
import { createValidation } from './message/validation.ts'
import type { Link } from '../links/link.ts'
import type { Metrics } from '../metrics.ts'

export interface RoutesOptions {
  config: Config
  logger: Logger
  metrics: Metrics
  version: string
  /** What the public listener speaks TLS with. */
  secure?: SecureServer | undefined
  authenticate: AuthenticationOptions['authenticate']
  /** Not asked before the first request. */
  linkOf: (identity: Identity) => Link
  /** Of all links. */
  sessionCount(): number
  isReachable(): boolean
  isShuttingDown(): boolean
}

/** What one caller may have of requests a second, streams and Idempotency-Keys where nothing else is set. */
const PER_IDENTITY = 1000

/** The whole HTTP surface, not listening. Without an admin port both servers are the same one. */
export async function createServers({
  config,
  logger,
  metrics,
  version,
  secure,
  authenticate,
  linkOf,
  sessionCount,
  isReachable,
  isShuttingDown,
}: RoutesOptions): Promise<{ server: FastifyInstance; admin: FastifyInstance }> {
  const validation = createValidation({ levelsMax: config.topicLevelsMax, allowDollar: config.allowDollarTopics })
  const options = {
    logger,
    limits: {
      connections: config.httpConnectionsMax,
      headersBytes: config.headersLimitBytes,
      headersMs: config.headersTimeoutMs,
      bodyBytes: config.bodyLimitBytes,
      bodyMs: config.bodyTimeoutMs,
      unreadMs: config.streamStallMs,
    },
    trustProxy: config.trustProxy,
    validation,
    isShuttingDown,
    onAnswered: metrics.answered,
    onDropped: () => metrics.refused('connections'),
  }
  const server = createServer({ ...options, secure })
  const admin = config.adminPort === undefined ? server : createServer(options)
  const access = createAccess(linkOf)
  const origins = new Set(config.corsOrigins?.split(','))
  // Where nobody has to say who they are, all are one caller.
  const perIdentity = config.auth === 'none' ? 0 : PER_IDENTITY

  async function operation(app: FastifyInstance): Promise<void> {
    await app.register(healthRoutes, { isReachable, isShuttingDown })
    await app.register(metricsRoutes, { text: metrics.text, openMetrics: metrics.openMetrics })
  }

  await allowOrigins(server, origins)
  // What the API is like is no secret; what it carries is.
  await docs(server, { version })
  await server.register(async (app) => {
    requireIdentity(app, {
      authenticate,
      places: { cookie: config.authCookie, query: config.authQueryToken },
      origins,
      ownNamesOnly: config.auth === 'none' && config.authNonePublic !== true,
      limits: new RequestLimits({
        perIdentity: config.rateIdentity ?? perIdentity,
        perAddress: config.rateAddress,
        onRefused: metrics.refused,
      }),
      observe: metrics.authenticated,
    })
    if (config.authCookie) await app.register(cookieRoutes)
    await app.register(publishRoutes, {
      publish: access.publish,
      once: createOnce(
        new MemoryStore({
          keysMax: config.idempotencyKeysMax,
          keysMaxOfOne: config.idempotencyKeysMaxIdentity ?? (perIdentity || config.idempotencyKeysMax),
          ttlMs: config.idempotencyTtlS * 1000,
        }),
        metrics.idempotencyKey,
      ),
    })
    await app.register(batchRoutes, {
      publish: access.publishWhenRoom,
      check: validation.checker(MessageSchema),
      batchMax: config.batchMax,
      lineMax: config.bodyLimitBytes,
      idleMs: config.streamStallMs,
    })
    await app.register(requestRoutes, { request: access.request })
    await app.register(subscribeRoutes, {
      sessions: {
        open: access.openSession,
        has: (identity, id) => linkOf(identity).sessions.has(id),
        count: sessionCount,
        max: config.sessionMax,
      },
      openStream: access.openStream,
      streamLimit: new StreamLimit({
        max: config.streamMax,
        perIdentity: config.streamMaxIdentity ?? perIdentity,
        perAddress: config.streamMaxAddress,
        onRefused: metrics.refused,
      }),
      filtersMax: config.streamFiltersMax,
      onOpened: (seconds) => metrics.answered('GET', '/subscribe', 200, seconds),
    })
    await app.register(retainedRoutes, { read: access.readRetained, publish: access.publish })
    await app.register(sessionRoutes, {
      list: (identity) => linkOf(identity).sessions.list,
      find: (identity, id) => linkOf(identity).sessions.find(id),
      acknowledge: (identity, id, eventId) => linkOf(identity).sessions.acknowledge(id, eventId),
      forget: (identity, id) => linkOf(identity).sessions.forget(id),
    })
    if (admin === server) await operation(app)
  })
  if (admin !== server) await operation(admin)
  return { server, admin }
}
