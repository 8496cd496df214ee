import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { createAuthenticator } from './auth/create.ts'
import { brokerOptions } from './config/broker-options.ts'
import { readBrokerFiles, readHttpsCertificate } from './config/certificates.ts'
import { Cluster } from './cluster/cluster.ts'
import type { Config } from './config/config.ts'
import { createServers, type ServersOptions } from './http/index.ts'
import { createHttps } from './http/server/https.ts'
import { Link } from './links/link.ts'
import { linksByAccount } from './links/links-by-account.ts'
import { createReplicas, type Replicas } from './links/replicas.ts'
import { type Links, sharedLink } from './links/shared-link.ts'
import { LimitedLog, limitedLogger } from './links/limited-log.ts'
import { BrokerStateLog, brokerEvents, reportStates } from './links/state-log.ts'
import { MemoryAccount } from './memory/account.ts'
import { createMetrics, type Gauges, type Metrics } from './metrics.ts'
import { Broker } from './mqtt/connection/broker.ts'
import { EMBEDDED_LEARNT, startEmbeddedBroker } from './mqtt/embedded/embedded-broker.ts'
import { Presence } from './mqtt/presence.ts'
import type { CreatePushesOptions, RunningPushes } from './push/create.ts'
import { readPushFiles } from './push/push-files.ts'
import { Redis } from './redis/redis.ts'
import type { Tracing } from './tracing/tracing.ts'
import { metricsOfAll } from './workers/metrics-of-all.ts'
import type { Worker } from './workers/worker.ts'

export interface App {
  /** URL of the public listener, with the port that it got. */
  url: string
  /** URL of the admin listener, which may be the public one. */
  adminUrl: string
  /** The embedded broker's URL, if there is one. */
  embeddedUrl: string | undefined
  isReachable(): boolean
  /** Reads certificates and tokens again. Keeps the old ones where the new ones cannot be used. */
  reload(): void
  /** Is unready from now on, and closes the connection with each answer. Everything is still served. */
  drain(): void
  /** Is unready at once, ends the streams, waits for publishes in flight, and disconnects from the broker. */
  close(): Promise<void>
}

export interface AppOptions {
  config: Config
  readFile(path: string): string
  logger: Logger
  version: string
  /** Without it no traces are recorded. The caller closes it. */
  tracing?: Tracing | undefined
  /** Where this process is one of several that share the port. */
  worker?: Worker | undefined
}

/** Reserved for disconnecting: a broker that does not answer takes two seconds. */
const DISCONNECT_MS = 2500

/**
 * Builds the bridge and listens. It starts without the broker too, and is unready until the broker is there.
 * Everything is constructed from the broker to the listeners, and closed in the opposite order.
 * @throws the listeners' errors, such as EADDRINUSE, and those of files that it cannot use
 */
export async function startApp({ config, readFile, logger, version, tracing, worker }: AppOptions): Promise<App> {
  const metrics = createMetrics(version)
  const limitedLog = new LimitedLog(logger)
  const memory = new MemoryAccount({
    totalBytes: config.memoryBytes,
    onRefused(purpose) {
      metrics.memoryRefused(purpose)
      const text = 'memory was refused: its caller, or all together, hold as much as CAUSEWAY_MEMORY_BYTES allows'
      limitedLog.warn(`memory ${purpose}`, { purpose, heldBytes: memory.heldBytes }, text)
    },
  })
  // Faults of files show before anything is started.
  const credentials = createAuthenticator({ config, readFile, logger, memory })
  const https = createHttps({ readCertificate: () => readHttpsCertificate(config, readFile), logger })
  let brokerFiles = readBrokerFiles(config, readFile)
  const pushFiles = readPushFiles(config, readFile)

  const redis = config.redisUrl === undefined ? undefined : await connectRedis(config, readFile, logger)
  const embedded =
    config.mqttUrl === 'embedded:'
      ? await startEmbeddedBroker({ port: config.embeddedPort, maxPacketBytes: config.mqttMaxPacketBytes, memory })
      : undefined
  const brokerUrl = embedded?.url ?? config.mqttUrl
  const clientId =
    config.mqttClientId === undefined
      ? `causeway-${randomBytes(6).toString('hex')}`
      : `${config.mqttClientId}${worker === undefined ? '' : `-${worker.number}`}`
  const log = new BrokerStateLog(limitedLog, logger)
  const broker = new Broker({
    ...brokerOptions(config, brokerUrl, () => brokerFiles),
    events: brokerEvents(limitedLog),
  })
  if (embedded !== undefined) Object.assign(broker.learnt, EMBEDDED_LEARNT)
  const linkOptions = {
    config,
    broker,
    clientId,
    logger,
    log,
    limitedLog,
    memory,
    metrics,
    tracing,
    viewsElsewhere: (id: string, lastEventId: string) => replicas.views(id, lastEventId),
  }

  const callerLinks = config.auth === 'broker' ? linksByAccount(linkOptions) : undefined
  const links = callerLinks ?? sharedLink(new Link(linkOptions))
  const authenticator = callerLinks ?? credentials
  const presence =
    config.statusTopic === undefined
      ? undefined
      : new Presence({
          connection: (name) => ({
            broker,
            clientId: `${clientId}-${name}`,
            onState: reportStates(name, log, () => metrics.reconnected('presence')),
          }),
          topic: config.statusTopic,
          name: clientId,
          isNameLasting: config.mqttClientId !== undefined,
          markerTopic: config.markerTopic!,
          timeoutMs: config.publishTimeoutMs,
          onWillNotRetained: () =>
            logger.warn(
              'the broker does not keep a will that is to be retained: if this bridge crashes, the status topic goes ' +
                'on saying online',
            ),
          onRefused: (error) => logger.error(error.message),
        })
  const cluster = new Cluster({
    connection: {
      broker,
      clientId: `${clientId}-cluster`,
      onState: reportStates('cluster', log, () => metrics.reconnected('cluster')),
    },
    topic: config.clusterTopic!,
    secret: config.sessionSecret,
    isAccountOptional: config.auth === 'broker',
    answer: (question) => replicas.answer(question),
    onRefused: ({ message }) =>
      logger.warn(
        `${message}; what reaches another replica than the one with the session is not handed over. Allow the ` +
          'bridge to publish and subscribe below CAUSEWAY_CLUSTER_TOPIC',
      ),
    onForeign: () =>
      limitedLog.warn(
        'foreign replica',
        {},
        'a message below CAUSEWAY_CLUSTER_TOPIC is not of a replica with the same CAUSEWAY_SESSION_SECRET',
      ),
    observe: metrics.asked,
  })
  const replicas: Replicas = createReplicas(cluster, () => links.all)
  const pushes = pushFiles === undefined ? undefined : await startPushes({ ...linkOptions, readFile, files: pushFiles })
  /** Set when the process is asked to end: until it shuts down, everything is still served. */
  let isDraining = false
  let isShuttingDown = false
  const { server, admin } = await createServers({
    config,
    secure: https?.server,
    acceptor: worker,
    logger: limitedLogger(logger, limitedLog),
    memory,
    metrics,
    expositions: expositionsOf(metrics, worker),
    tracing,
    onAnswered: logAnswers(metrics.answered, limitedLog),
    version,
    authenticate: (caller, address) => authenticator.authenticate(caller, address),
    linkOf: (identity) => links.linkOf(identity),
    replicas,
    sessionCount: () => sumOf(links, ({ sessions }) => sessions.count),
    isReachable: () => links.isReachable,
    isDraining: () => isDraining,
    broker,
    redis,
    pushes: () => pushes?.list ?? [],
    isShuttingDown: () => isShuttingDown,
  })
  metrics.setGauges(gaugesOf({ config, links, presence, cluster, pushes, redis, memory, broker, server }))
  // A server closes once its responses have ended, which open streams never do by themselves.
  server.addHook('preClose', async () => {
    isShuttingDown = true
    await Promise.all(links.all.map((link) => link.endStreams()))
  })

  /** What is read now is used from the next attempt to connect on. */
  function reloadBrokerFiles(): void {
    try {
      brokerFiles = readBrokerFiles(config, readFile)
    } catch (error) {
      return logger.error(`${(error as Error).message}; the files read before stay in use`)
    }
    if (Object.keys(brokerFiles).length > 0) logger.info('read the files for connections to the broker again')
  }

  async function close(): Promise<void> {
    isDraining = true
    // Requests that do not end are cut off while there is still time to disconnect from the broker.
    const cut = new AbortController()
    cut.signal.addEventListener('abort', () => (https?.server ?? server.server).closeAllConnections())
    const timer = setTimeout(() => cut.abort(), Math.max(config.shutdownMs - DISCONNECT_MS, config.shutdownMs / 2))
    await Promise.all([server.close(), pushes?.close(cut.signal)])
    clearTimeout(timer)
    logUnanswered(
      sumOf(links, ({ publisher }) => publisher.unacknowledged),
      logger,
    )
    await Promise.all([presence?.close(), cluster.close(), links.close()])
    await Promise.all([embedded?.close(), redis?.close()])
    // The admin listener closes last: until then it says that the bridge is shutting down.
    if (admin !== server) await admin.close()
  }

  try {
    await links.attempted()
    // For `localhost` Fastify would start one more server for each further address of that name, without our limits.
    const host = config.httpHost === 'localhost' ? '127.0.0.1' : config.httpHost
    await server.listen({ host, port: config.httpPort })
    if (admin !== server) await admin.listen({ host: config.adminHost ?? host, port: config.adminPort! })
  } catch (error) {
    await close()
    throw error
  }

  return {
    url: urlOf(server, https !== undefined),
    adminUrl: urlOf(admin, https !== undefined && admin === server),
    embeddedUrl: embedded?.url,
    isReachable: () => links.isReachable,
    reload() {
      const failed = (error: unknown) =>
        logger.error({ err: error }, 'reloading failed with an unexpected error; what was in use stays')
      for (const reload of [
        () => credentials.reload(),
        () => https?.reload(),
        reloadBrokerFiles,
        () => pushes?.reload(),
      ]) {
        // None waits for another: the keys of tokens are fetched over the network.
        void (async () => reload())().catch(failed)
      }
    },
    drain() {
      isDraining = true
    },
    close,
  }
}

/** What `/metrics` shows: the metrics of this process, or those of all workers as one. */
function expositionsOf({ text, openMetrics }: Metrics, worker: Worker | undefined): ServersOptions['expositions'] {
  if (worker === undefined) return { text, openMetrics }
  return {
    text: metricsOfAll(worker, text, text.contentType),
    openMetrics: metricsOfAll(worker, text, openMetrics.contentType),
  }
}

/** Answers that somebody should know of who reads the log. Publishes are logged with their reason. */
const LOGGED_STATUSES = [429, 502, 504]

function logAnswers(answered: Metrics['answered'], log: LimitedLog): ServersOptions['onAnswered'] {
  return (answer) => {
    answered(answer)
    const { requestId, method, route, status } = answer
    if (!LOGGED_STATUSES.includes(status) || (route === '/publish' && status !== 429)) return
    log.warn(`${status} ${route}`, { requestId, method, route, status }, 'a request failed')
  }
}

/** Loads the HTTP client for endpoints only where there are any: it takes a tenth of the start. */
async function startPushes(options: CreatePushesOptions): Promise<RunningPushes> {
  const { createPushes } = await import('./push/create.ts')
  return createPushes(options)
}

/** One line at the end of the process: how many publishes were sent and stayed without an answer. */
function logUnanswered(unanswered: number, logger: Logger): void {
  if (unanswered === 0) return logger.info({ unanswered }, 'the broker has answered every publish')
  logger.warn({ unanswered }, `publishes that stayed unanswered: ${unanswered}. Whether the broker has them is unknown`)
}

/** Connects to Redis, and logs one line each time that it goes or comes back. */
function connectRedis(
  { redisUrl, redisCaFile, redisPrefix }: Config,
  readFile: (path: string) => string,
  logger: Logger,
): Promise<Redis> {
  return Redis.connect({
    url: redisUrl!,
    ca: redisCaFile === undefined ? undefined : readFile(redisCaFile),
    prefix: redisPrefix!,
    onChange(change) {
      const { state, address } = change
      if (state === 'connected') logger.info(`connected to ${address}`)
      else if (state === 'emptied') {
        logger.warn(`${address} has lost its data: Idempotency-Keys from before are not known any more`)
      } else {
        logger.warn(
          { reason: change.reason },
          `${address} is away: requests with an Idempotency-Key get 503, and limits hold for each replica`,
        )
      }
    },
  })
}

interface GaugeSources {
  config: Config
  links: Links
  presence: Presence | undefined
  cluster: Cluster
  pushes: RunningPushes | undefined
  redis: Redis | undefined
  memory: MemoryAccount
  broker: Broker
  server: FastifyInstance
}

/** What the metrics ask on each scrape: sums over all links. */
function gaugesOf({ config, links, presence, cluster, pushes, redis, memory, broker, server }: GaugeSources): Gauges {
  const sum = (count: (link: Link) => number): number => sumOf(links, count)
  return {
    links: { value: () => links.all.length, limit: () => (config.auth === 'broker' ? config.linkMax : 1) },
    publishInFlight: {
      value: () => sum(({ publisher }) => publisher.inFlight),
      limit: () => sum(({ publisher }) => publisher.inFlightMax),
    },
    publishWaiting: () => sum(({ publisher }) => publisher.waiting),
    publishOldestSeconds() {
      const oldestAt = Math.min(...links.all.map(({ publisher }) => publisher.oldestAt))
      return oldestAt === Infinity ? 0 : (performance.now() - oldestAt) / 1000
    },
    requestsWaiting: { value: () => sum((link) => link.requestsWaiting), limit: () => sum(() => config.requestsMax) },
    httpConnections: {
      value: () => new Promise((resolve) => server.server.getConnections((_error, count) => resolve(count ?? 0))),
      limit: () => config.httpConnectionsMax,
    },
    streamsLimit: () => config.streamMax,
    streamLags: () => links.all.flatMap(({ streams }) => streams.lags),
    subscriptionFilters: () => sum((link) => link.filterCount),
    sessionsOpen: { value: () => sum(({ sessions }) => sessions.count), limit: () => config.sessionMax },
    sessionUnacknowledged: () =>
      sum(({ sessions }) => sessions.list.reduce((total, { unacknowledged }) => total + unacknowledged, 0)),
    heldBytes: () => memory.byPurpose,
    heldBytesLimit: () => memory.totalBytes,
    isBrokerReachable: () => links.isReachable,
    replicas: () => cluster.size,
    redis: redis && (() => redis.isConnected),
    connections: () => [
      ...links.all.flatMap(({ connections, sessions }) => [
        ...connections,
        ...sessions.states.map((state) => ({ role: 'session', state })),
      ]),
      ...links.connections,
      ...(presence?.states ?? []).map((state) => ({ role: 'presence', state })),
      { role: 'cluster', state: cluster.state },
      ...(pushes?.connections ?? []),
    ],
    pushes: () => pushes?.gauges ?? [],
    negotiated: () =>
      broker.reports.flatMap(({ role, state, protocol, capabilities }) =>
        state === 'connected' ? [{ role, protocol, receiveMaximum: capabilities?.receiveMaximum }] : [],
      ),
  }
}

function sumOf(links: Links, count: (link: Link) => number): number {
  return links.all.reduce((total, link) => total + count(link), 0)
}

function urlOf(server: FastifyInstance, isSecure: boolean): string {
  const { address, port, family } = server.server.address() as AddressInfo
  return `${isSecure ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
