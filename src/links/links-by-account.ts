import type { BaseLogger } from 'pino'
import { Refusals } from '../auth/broker/refusals.ts'
import { brokerOptions } from '../config/broker-options.ts'
import type { Config } from '../config/config.ts'
import type { MemoryAccount } from '../memory/account.ts'
import type { Metrics } from '../metrics.ts'
import { Monitor } from '../mqtt/monitor.ts'
import { CallerLinks } from './caller-links.ts'
import { Link } from './link.ts'
import { BrokerStateLog, reportStates } from './state-log.ts'

export interface LinksByAccountOptions {
  config: Config
  brokerUrl: string
  clientId: string
  logger: BaseLogger
  memory: MemoryAccount
  metrics: Metrics
}

/** The links of `CAUSEWAY_AUTH=broker`: one for each caller whose credentials the broker accepts. */
export function linksByAccount(options: LinksByAccountOptions): CallerLinks {
  const { config, brokerUrl, clientId, logger, metrics } = options
  let created = 0
  return new CallerLinks({
    createLink: (login, log) => new Link({ ...options, login, clientId: `${clientId}-${(created += 1)}`, log }),
    monitor: new Monitor({
      ...brokerOptions(config, brokerUrl),
      clientId: `${clientId}-monitor`,
      onState: reportStates('monitor', new BrokerStateLog(logger), () => metrics.reconnected('monitor')),
    }),
    refusals: new Refusals({ windowMs: config.authRefusedMs, perAddress: config.authRefusedMax }),
    max: config.linkMax,
    // A stream whose reader has left lingers only as long as its link is there.
    idleMs: Math.max(config.linkIdleMs, config.streamLingerMs),
    bearerUsername: config.authBearerUsername!,
  })
}
