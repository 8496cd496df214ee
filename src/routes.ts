import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import { batchRoutes } from './http/batch.ts'
import { docs } from './http/docs.ts'
import { healthRoutes } from './http/health.ts'
import { createOnce } from './http/idempotency.ts'
import { MemoryStore } from './http/idempotency-memory.ts'
import { metricsRoutes } from './http/metrics.ts'
import { publishRoutes } from './http/publish.ts'
import { requestRoutes } from './http/request.ts'
import { retainedRoutes } from './http/retained.ts'
import { MessageSchema } from './http/schemas.ts'
import { createServer } from './http/server.ts'
import { sessionRoutes } from './http/sessions.ts'
import { subscribeRoutes } from './http/subscribe.ts'
import { createValidation } from './http/validation.ts'
import type { Link } from './link.ts'
import type { Metrics } from './metrics.ts'

export interface RoutesOptions {
  config: Config
  logger: Logger
  metrics: Metrics
  version: string
  /** Not touched before the first request. */
  link: Link
  isShuttingDown(): boolean
}

/** The whole HTTP surface, not listening. Without an admin port both servers are the same one. */
export async function createServers({ config, logger, metrics, version, link, isShuttingDown }: RoutesOptions): Promise<{ server: FastifyInstance; admin: FastifyInstance }> {
  const validation = createValidation({ levelsMax: config.topicLevelsMax, allowDollar: config.allowDollarTopics })
  const options = { logger, bodyLimitBytes: config.bodyLimitBytes, validation, isShuttingDown, onAnswered: metrics.answered }
  const server = createServer(options)
  const admin = config.adminPort === undefined ? server : createServer(options)

  await docs(server, { version })
  await server.register(publishRoutes, {
    publish: (message) => link.publish(message),
    once: createOnce(new MemoryStore({ keysMax: config.idempotencyKeysMax, ttlMs: config.idempotencyTtlS * 1000 }), metrics.idempotencyKey),
  })
  await server.register(batchRoutes, {
    publish: (message) => link.publishWhenRoom(message),
    check: validation.checker(MessageSchema),
    batchMax: config.batchMax,
    lineMax: config.bodyLimitBytes,
  })
  await server.register(requestRoutes, { request: (message, timeoutMs, signal) => link.request(message, timeoutMs, signal) })
  await server.register(subscribeRoutes, {
    sessions: { open: (spec, lastEventId) => link.sessions.open(spec, lastEventId), has: (id) => link.sessions.has(id), count: () => link.sessions.count, max: config.sessionMax },
    open: (spec) => link.hub.open(spec),
    retainedFor: (filters, lease) => link.retainedFor(filters, lease),
    streamMax: config.streamMax,
    filtersMax: config.streamFiltersMax,
    onOpened: (seconds) => metrics.answered('GET', '/subscribe', 200, seconds),
  })
  await server.register(retainedRoutes, { read: (filters) => link.readRetained(filters), publish: (message) => link.publish(message) })
  await server.register(sessionRoutes, {
    list: () => link.sessions.list,
    acknowledge: (id, eventId) => link.sessions.acknowledge(id, eventId),
    forget: (id) => link.sessions.forget(id),
  })
  await admin.register(healthRoutes, { isReachable: () => link.isReachable, isShuttingDown })
  await admin.register(metricsRoutes, { text: metrics.text, openMetrics: metrics.openMetrics })
  return { server, admin }
}
