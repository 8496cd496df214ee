import type { BaseLogger } from 'pino'
import type { Authenticator } from '../auth/authenticator.ts'
import { Refusals } from '../auth/broker/refusals.ts'
import { BrokerStateLog, onReconnect } from './state-log.ts'
import { CallerLinks } from './caller-links.ts'
import type { Config } from '../config/config.ts'
import { brokerOptions } from '../config/broker-options.ts'
import { Link } from './link.ts'
import type { Links } from './shared-link.ts'
import type { Metrics } from '../metrics.ts'
import { Monitor } from '../mqtt/monitor.ts'

export interface LinksByAccountOptions {
  config: Config
  brokerUrl: string
  clientId: string
  logger: BaseLogger
  metrics: Metrics
}

/** The links of `CAUSEWAY_AUTH=broker`: one for each caller whom the broker lets in. */
export function linksByAccount(options: LinksByAccountOptions): Links & Authenticator {
  const { config, brokerUrl, clientId, logger, metrics } = options
  const log = new BrokerStateLog(logger)
  const countReconnect = onReconnect(() => metrics.reconnected('monitor'))
  const monitor = new Monitor({
    ...brokerOptions(config, brokerUrl),
    clientId: `${clientId}-monitor`,
    onState(state, cause) {
      log.state('monitor', state, cause)
      countReconnect(state)
    },
  })
  let created = 0
  const callers = new CallerLinks({
    createLink: (login, states) =>
      new Link({ ...options, login, clientId: `${clientId}-${(created += 1)}`, log: states }),
    refusals: new Refusals({ windowMs: config.authRefusedMs, perAddress: config.authRefusedMax }),
    max: config.linkMax,
    // Streams that linger are only there as long as their link.
    idleMs: Math.max(config.linkIdleMs, config.streamLingerMs),
    bearerUsername: config.authBearerUsername!,
  })
  return {
    authenticate: (credentials, address) => callers.authenticate(credentials, address),
    of: (identity) => callers.of(identity),
    get all() {
      return callers.all
    },
    get isReachable() {
      // Without an account of its own the bridge asks seldom; callers who lost the broker know it first.
      return monitor.isReachable && (callers.all.length === 0 || callers.all.some((link) => link.isReachable))
    },
    get connections() {
      return [{ role: 'monitor', state: monitor.state }]
    },
    attempted: () => monitor.attempted(),
    close: async () => void (await Promise.all([callers.close(), monitor.close()])),
  }
}
