import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { createAuthenticator } from './auth/create.ts'
import { linksByAccount } from './links/links-by-account.ts'
import { BrokerStateLog } from './links/state-log.ts'
import { checkBrokerCertificates, readHttpsCertificate } from './config/certificates.ts'
import { createHttps } from './http/server/https.ts'
import type { Config } from './config/config.ts'
import { brokerOptions } from './config/broker-options.ts'
import { Link } from './links/link.ts'
import { sharedLink } from './links/shared-link.ts'
import { createMetrics } from './metrics.ts'
import { startEmbeddedBroker } from './mqtt/embedded-broker.ts'
import { Presence } from './mqtt/presence.ts'
import { createServers } from './http/index.ts'

export interface App {
  /** Where it listens, with the ports it got. */
  url: string
  adminUrl: string
  /** The embedded broker's URL, where there is one. */
  embeddedUrl: string | undefined
  isReachable(): boolean
  /** Reads the files again that may change while it runs. */
  reload(): void
  /** Unready at once; ends streams, lets publishes in flight finish, disconnects from the broker. */
  close(): Promise<void>
}

export interface AppOptions {
  config: Config
  readFile(path: string): string
  logger: Logger
  version: string
}

/** Longest time it takes to disconnect from a broker that does not answer, and some more. */
const LEAVE_MS = 2500

/**
 * Builds the bridge and listens. It starts without the broker too, unready until that is there.
 * @throws the listeners' errors, EADDRINUSE among them, and those of files it cannot use
 */
export async function startApp({ config, readFile, logger, version }: AppOptions): Promise<App> {
  const ofSharedLink = createAuthenticator({ config, readFile, logger })
  const https = createHttps({ readCertificate: () => readHttpsCertificate(config, readFile), logger })
  checkBrokerCertificates(config)
  const metrics = createMetrics(version)
  const broker = config.mqttUrl === 'embedded:' ? await startEmbeddedBroker(config.embeddedPort) : undefined
  const brokerUrl = broker?.url ?? config.mqttUrl
  const clientId = config.mqttClientId ?? `causeway-${randomBytes(6).toString('hex')}`
  const options = { config, brokerUrl, clientId, logger, metrics }
  const ofCallers = config.auth === 'broker' ? linksByAccount(options) : undefined
  const links = ofCallers ?? sharedLink(new Link({ ...options, log: new BrokerStateLog(logger) }))
  const authenticator = ofCallers ?? ofSharedLink
  const presence =
    config.statusTopic === undefined
      ? undefined
      : new Presence(
          config.statusTopic,
          { ...brokerOptions(config, brokerUrl), clientId: `${clientId}-presence` },
          (error) => logger.error(error.message),
        )
  const sum = (count: (link: Link) => number): number => links.all.reduce((total, link) => total + count(link), 0)
  const sessionCount = () => sum(({ sessions }) => sessions.count)
  metrics.setGauges({
    links: () => links.all.length,
    requestsWaiting: () => sum((link) => link.requestsWaiting),
    publishInFlight: () => sum((link) => link.publishInFlight),
    subscriptionFilters: () => sum((link) => link.filterCount),
    sessionsOpen: sessionCount,
    sessionUnacknowledged: () =>
      sum(({ sessions }) => sessions.list.reduce((total, { unacknowledged }) => total + unacknowledged, 0)),
    connections: () => [
      ...links.all.flatMap(({ connections, sessions }) => [
        ...connections,
        ...sessions.states.map((state) => ({ role: 'session', state })),
      ]),
      ...links.connections,
      ...(presence ? [{ role: 'presence', state: presence.state }] : []),
    ],
  })
  let shuttingDown = false

  const { server, admin } = await createServers({
    config,
    secure: https?.server,
    logger,
    metrics,
    version,
    authenticate: (credentials, address) => authenticator.authenticate(credentials, address),
    linkOf: (identity) => links.of(identity),
    sessionCount,
    isReachable: () => links.isReachable,
    isShuttingDown: () => shuttingDown,
  })
  // Open streams would otherwise keep the server from closing.
  server.addHook('preClose', async () => {
    for (const { streams } of links.all) streams.close()
    await Promise.all(links.all.map(({ sessions }) => sessions.close()))
  })

  async function close(): Promise<void> {
    shuttingDown = true
    // A request that never ends must not keep the bridge from taking leave of the broker.
    const timer = setTimeout(
      () => (https?.server ?? server.server).closeAllConnections(),
      Math.max(config.shutdownMs - LEAVE_MS, config.shutdownMs / 2),
    )
    await server.close()
    clearTimeout(timer)
    await Promise.all([links.close(), presence?.close()])
    await broker?.close()
    if (admin !== server) await admin.close()
  }

  try {
    await links.attempted()
    // For the name Fastify would make a server for each address it may have, and the others would know no limits.
    const host = config.httpHost === 'localhost' ? '127.0.0.1' : config.httpHost
    await server.listen({ host, port: config.httpPort })
    if (admin !== server) await admin.listen({ host, port: config.adminPort! })
  } catch (error) {
    await close()
    throw error
  }
  return {
    url: urlOf(server, https !== undefined),
    adminUrl: urlOf(admin, https !== undefined && admin === server),
    embeddedUrl: broker?.url,
    isReachable: () => links.isReachable,
    reload() {
      ofSharedLink.reload()
      https?.reload()
    },
    close,
  }
}

function urlOf(server: FastifyInstance, isSecure: boolean): string {
  const { address, port, family } = server.server.address() as AddressInfo
  return `${isSecure ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
