import type { Broker, ConnectionReport } from './broker.ts'
import type { Learnt } from './learnt.ts'

/** The broker as found, for people: `GET /readyz?verbose` and `causeway check --connect`. */
export interface BrokerDescription {
  broker: {
    /** As configured. */
    addresses: string[]
    /** Where a connection is established. */
    address?: string
    protocol?: '5' | '3.1.1'
    /** What CONNACK said, or what MQTT 3.1.1 implies. */
    limits?: Record<string, unknown>
    /** What the bridge has found out; grows as it is used. */
    learnt?: Learnt
  }
  /** The bridge's own connections. */
  connections: Record<string, unknown>[]
  /** How many connections of sessions and of callers there are, by role and state. */
  others: Record<string, Record<string, number>>
}

/** Client ids of sessions and of callers are not shown: other callers may see this. */
export function describeBroker({
  addresses,
  reports,
  learnt,
}: Pick<Broker, 'addresses' | 'reports' | 'learnt'>): BrokerDescription {
  const isOwn = ({ role, isCallers }: ConnectionReport) => role !== 'session' && !isCallers
  const found = reports.find(({ state, capabilities }) => state === 'connected' && capabilities !== undefined)
  const { protocol: _protocol, ...limits } = found?.capabilities ?? {}
  const others: BrokerDescription['others'] = {}
  for (const { role, state } of reports.filter((report) => !isOwn(report))) {
    const counts = (others[role] ??= {})
    counts[state] = (counts[state] ?? 0) + 1
  }
  return {
    broker: {
      addresses,
      ...(found && { address: found.address, protocol: found.protocol, limits, learnt }),
    },
    connections: reports.filter(isOwn).map(({ role, clientId, state, address, protocol, reason }) => ({
      role,
      clientId,
      state,
      address,
      protocol,
      ...(reason !== undefined && { reason }),
    })),
    others,
  }
}
