import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { Identity } from '../auth/identity.ts'
import type { Config } from '../config/config.ts'
import { createAccess } from '../links/access.ts'
import type { Link } from '../links/link.ts'
import type { Replicas } from '../links/replicas.ts'
import type { MemoryAccount } from '../memory/account.ts'
import type { Metrics } from '../metrics.ts'
import type { Redis } from '../redis/redis.ts'
import { isSessionOf } from '../mqtt/session/session-id.ts'
import { createAddressShares } from './guard/address-shares.ts'
import { type AuthenticationOptions, createAuthenticationHook, requireIdentity } from './guard/authentication.ts'
import { allowOrigins } from './guard/cors.ts'
import { Origins, refuseForeignPages } from './guard/origin.ts'
import { RedisRateLimit } from './guard/rate-limit-redis.ts'
import { RequestLimits } from './guard/request-limits.ts'
import { StreamLimit } from './guard/stream-limit.ts'
import { MemoryStore } from './message/idempotency-memory.ts'
import { RedisStore } from './message/idempotency-redis.ts'
import { createOnce } from './message/idempotency.ts'
import { jsonBytesMax } from './message/read-message.ts'
import { MessageSchema } from './message/schemas.ts'
import { createValidation } from './message/validation.ts'
import { batchRoutes } from './routes/batch.ts'
import { consoleRoutes } from './routes/console.ts'
import { cookieRoutes } from './routes/cookie.ts'
import { docs } from './routes/docs.ts'
import { type HealthRoutes, healthRoutes } from './routes/health.ts'
import { type MetricsRoutes, metricsRoutes } from './routes/metrics.ts'
import { publishRoutes } from './routes/publish.ts'
import { type PushRoutes, pushRoutes } from './routes/push.ts'
import { requestRoutes } from './routes/request.ts'
import { retainedRoutes } from './routes/retained.ts'
import { sessionRoutes } from './routes/sessions.ts'
import { subscribeRoutes } from './routes/subscribe.ts'
import type { SecureServer } from './server/secure-server.ts'
import { createServer, refuseUnknown, type ServerOptions } from './server/server.ts'

export interface ServersOptions {
  config: Config
  logger: Logger
  memory: MemoryAccount
  metrics: Metrics
  expositions: MetricsRoutes
  onAnswered: ServerOptions['onAnswered']
  tracing?: ServerOptions['tracing']
  version: string
  /**
   * The TLS listener of the public server. Without it the server speaks plain HTTP/1.1. The admin server always does.
   */
  secure?: SecureServer | undefined
  /** Accepts the connections of the public server, where that is another process. */
  acceptor?: ServerOptions['acceptor']
  authenticate: AuthenticationOptions['authenticate']
  /** The caller's connections to the broker. Called for requests only, never while the servers are built. */
  linkOf: (identity: Identity) => Link
  /** What is done with sessions that are open at another replica. */
  replicas: Pick<Replicas, 'acknowledge' | 'forget'>
  /** Number of durable sessions open on all links. */
  sessionCount(): number
  isReachable(): boolean
  /** Whether the process is asked to end. Until `isShuttingDown` everything is still served. */
  isDraining(): boolean
  /** What all replicas share; undefined where each is on its own. */
  redis: Redis | undefined
  /** How the connections to the broker are. */
  broker: HealthRoutes['broker']
  /** The push targets, and how they are. */
  pushes: PushRoutes['list']
  isShuttingDown(): boolean
}

/**
 * Requests a second, open streams and Idempotency-Keys of one authenticated caller, where no setting says otherwise.
 */
const DEFAULT_PER_IDENTITY = 1000
/** Parameters of a query besides its filters; there are about ten. */
const OTHER_PARAMETERS = 100
/** Probes and Prometheus need a few. */
const ADMIN_CONNECTIONS_MAX = 100

/**
 * Builds the whole HTTP surface, not yet listening, in the order in which a request passes through it: server, hooks,
 * routes. A new route is a file in `routes/` and one line in part 4.
 * @returns the same server twice where no admin port is configured
 */
export async function createServers({
  config,
  logger,
  memory,
  metrics,
  expositions,
  onAnswered,
  tracing,
  version,
  secure,
  acceptor,
  authenticate,
  linkOf,
  replicas,
  sessionCount,
  isReachable,
  isDraining,
  broker,
  redis,
  pushes,
  isShuttingDown,
}: ServersOptions): Promise<{ server: FastifyInstance; admin: FastifyInstance }> {
  // 1. Servers. `createServer` adds the hooks that every request passes through.
  const validation = createValidation({ levelsMax: config.topicLevelsMax, allowDollar: config.allowDollarTopics })
  const options = {
    logger,
    limits: {
      connections: config.httpConnectionsMax,
      connectionsPerAddress: config.httpConnectionsMaxAddress,
      keepAliveTimeoutMs: config.keepaliveTimeoutMs,
      headersBytes: config.headersLimitBytes,
      headersTimeoutMs: config.headersTimeoutMs,
      bodyBytes: jsonBytesMax(config.bodyLimitBytes),
      bodyTimeoutMs: config.bodyTimeoutMs,
      parameters: config.streamFiltersMax + OTHER_PARAMETERS,
      stallMs: config.streamStallMs,
    },
    trustProxy: config.trustProxy,
    validation,
    shareOf: createAddressShares(memory),
    tracing,
    isDraining,
    isShuttingDown,
    onAnswered,
    onRoute: metrics.willAnswer,
    onDropped: metrics.refused,
  }
  const adminLimits = { ...options.limits, connections: ADMIN_CONNECTIONS_MAX, connectionsPerAddress: 0 }
  const server = createServer({ ...options, secure, acceptor })
  const admin = config.adminPort === undefined ? server : createServer({ ...options, limits: adminLimits })

  // 2. What several hooks and routes need.
  const access = createAccess(linkOf, config.clusterTopic!)
  const origins = new Origins(config.corsOrigins)
  const isAnonymous = config.auth === 'none'
  // Without authentication all callers share one identity, so a limit for each identity would be one for everybody.
  const perIdentity = isAnonymous ? 0 : DEFAULT_PER_IDENTITY

  const authentication = createAuthenticationHook({
    authenticate,
    sources: { cookie: config.authCookie, query: config.authQueryToken },
    origins,
    trustedHostsOnly: isAnonymous && !config.authNonePublic,
    limits: new RequestLimits({
      perIdentity: config.rateIdentity ?? perIdentity,
      perAddress: config.rateAddress,
      onRefused: metrics.refused,
      sharedLimit: redis && ((policy) => new RedisRateLimit(redis, policy)),
    }),
    shareOf: (name) => memory.shareOf(name),
    observe: metrics.authenticated,
  })

  // 3. Public: CORS preflights, the API's description, the page, health, and the admin server, whose port the operator
  // protects. Probes have no credentials; what tells more than a probe needs wants some on the public port.
  await allowOrigins(server, origins.all)
  for (const each of new Set([server, admin])) {
    refuseForeignPages(each, origins)
    refuseUnknown(each)
  }
  await docs(server, { version })
  if (config.console) {
    await server.register(consoleRoutes, {
      version,
      auth: config.auth,
      cookie: config.authCookie,
      operation: admin === server,
      heartbeatMs: config.streamHeartbeatMs,
    })
  }
  await admin.register(healthRoutes, {
    isReachable,
    isDraining,
    broker,
    redis: redis && (() => redis.report),
    guardVerbose: admin === server ? authentication : undefined,
  })
  if (admin !== server) {
    await admin.register(metricsRoutes, expositions)
    await admin.register(pushRoutes, { list: pushes })
  }

  // 4. Routes that need an identity.
  await server.register(async (app) => {
    requireIdentity(app, authentication)
    if (config.authCookie) await app.register(cookieRoutes)
    const keys = {
      keysMaxPerCaller: config.idempotencyKeysMaxIdentity ?? (perIdentity || config.idempotencyKeysMax),
      ttlMs: config.idempotencyTtlS * 1000,
    }
    const store =
      redis === undefined
        ? new MemoryStore<unknown>({ ...keys, keysMax: config.idempotencyKeysMax })
        : new RedisStore<unknown>({ ...keys, redis })
    const once = createOnce(store, metrics.idempotencyKey)
    await app.register(publishRoutes, { publish: access.publish, once, payloadMax: config.bodyLimitBytes })
    await app.register(batchRoutes, {
      publish: access.publishWhenRoom,
      check: validation.checker(MessageSchema),
      batchMax: config.batchMax,
      lineMax: jsonBytesMax(config.bodyLimitBytes),
      payloadMax: config.bodyLimitBytes,
      idleMs: config.streamStallMs,
    })
    await app.register(requestRoutes, { request: access.request, once, payloadMax: config.bodyLimitBytes })
    await app.register(subscribeRoutes, {
      sessions: {
        open: access.openSession,
        has: ({ identity }, id) => linkOf(identity).sessions.has(id),
        count: sessionCount,
        countOf: ({ identity }) => linkOf(identity).sessions.countWhere((id) => isSessionOf(identity.name, id)),
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
      onOpened: (seconds) => metrics.answered({ method: 'GET', route: '/subscribe', status: 200, seconds }),
    })
    await app.register(sessionRoutes, {
      list: (identity) => linkOf(identity).sessions.list,
      acknowledge: (identity, id, eventId) => replicas.acknowledge(linkOf(identity), id, eventId),
      forget: (identity, id) => replicas.forget(linkOf(identity), id),
    })
    await app.register(retainedRoutes, { read: access.readRetained, publish: access.publish })
    if (admin === server) {
      await app.register(metricsRoutes, expositions)
      await app.register(pushRoutes, { list: pushes })
    }
  })
  return { server, admin }
}
