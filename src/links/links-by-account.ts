import type { BaseLogger } from 'pino'
import { Refusals } from '../auth/broker/refusals.ts'
import type { Config } from '../config/config.ts'
import type { MemoryAccount } from '../memory/account.ts'
import type { Metrics } from '../metrics.ts'
import type { Broker } from '../mqtt/connection/broker.ts'
import { Monitor } from '../mqtt/monitor.ts'
import { CallerLinks } from './caller-links.ts'
import { Link, type LinkOptions } from './link.ts'
import type { LimitedLog } from './limited-log.ts'
import { reportStates, type StateLog } from './state-log.ts'

export interface LinksByAccountOptions {
  config: Config
  broker: Broker
  clientId: string
  logger: BaseLogger
  /** Gets the states of the monitor's connection. */
  log: StateLog
  limitedLog: LimitedLog
  memory: MemoryAccount
  metrics: Metrics
  viewsElsewhere: LinkOptions['viewsElsewhere']
}

/** The links of `CAUSEWAY_AUTH=broker`: one for each caller whose credentials the broker accepts. */
export function linksByAccount(options: LinksByAccountOptions): CallerLinks {
  const { config, broker, clientId, log, metrics } = options
  let created = 0
  return new CallerLinks({
    createLink: (login, callerLog) =>
      new Link({ ...options, login, clientId: `${clientId}-${(created += 1)}`, log: callerLog }),
    monitor: new Monitor({
      broker,
      clientId: `${clientId}-monitor`,
      onState: reportStates('monitor', log, () => metrics.reconnected('monitor')),
    }),
    refusals: new Refusals({ windowMs: config.authRefusedMs, perAddress: config.authRefusedMax }),
    max: config.linkMax,
    // A stream whose reader has left lingers only as long as its link is there.
    idleMs: Math.max(config.linkIdleMs, config.streamLingerMs),
    bearerUsername: config.authBearerUsername!,
  })
}
