import type { MemoryShare } from '../memory/account.ts'
import type { NetworkConnection } from './client/network-connection.ts'
import type { Broker } from './connection/broker.ts'
import { Connection } from './connection.ts'
import type { Message, QoS } from './message.ts'
import { Publisher } from './publish/publisher.ts'
import { withTimeout } from './with-timeout.ts'

export interface TrialOptions {
  broker: Broker
  /** Prefix of the client ids. */
  clientId: string
  /** Where it publishes and subscribes; nobody else should. */
  topic: string
  /** How long to wait for each answer. */
  timeoutMs: number
  share: MemoryShare
}

/** What a broker did with one message. */
export interface TrialPublish {
  qos: QoS
  /** From the publish to its acknowledgement; undefined at QoS 0 and where there was none. */
  acknowledgedMs?: number
  /** What the broker said with the acknowledgement; null where it does not say that. */
  reason?: string | null
  /** From the publish to its arrival on our subscription; undefined where it did not arrive in time. */
  arrivedMs?: number
  /** Why it was not published. */
  fault?: string
}

export interface Trial {
  topic: string
  /** The QoS that the broker granted to the subscription; undefined where it refused it. */
  grantedQos?: QoS
  /** Why there is no subscription. */
  fault?: string
  publishes: TrialPublish[]
  /** What the broker publishes as its version; undefined where it publishes none or does not allow to read it. */
  version?: string
}

/** Mosquitto, FlashMQ, HiveMQ and others have a retained message there. MQTT itself has no such thing. */
const VERSION_TOPIC = '$SYS/broker/version'
/** A message that takes longer to come back counts as lost. */
const ARRIVAL_MS = 2000
const VERSION_MS = 500

/**
 * Connects, subscribes to a topic, and publishes one message at each QoS to it.
 * @returns undefined where there is no connection; `broker.reports` then says why
 * @param whileConnected called before the connections are closed
 */
export async function tryBroker(
  { broker, clientId, topic, timeoutMs, share }: TrialOptions,
  whileConnected: () => void,
): Promise<Trial | undefined> {
  /** By payload, of our own messages; by topic, of others. */
  const arrivals = new Map<string, (payload: Buffer) => void>()
  const subscriber = new Connection({
    role: 'subscribe',
    broker,
    clientId: `${clientId}-subscribe`,
    keepSession: false,
    handlers: {
      message: ({ topic: from, payload }) => arrivals.get(from === topic ? payload.toString() : from)?.(payload),
    },
  })
  const publisher = new Publisher({
    connections: 1,
    connection: () => ({ role: 'publish', broker, clientId: `${clientId}-publish`, keepSession: false }),
    maxInFlight: 10,
    maxInFlightBytes: 1024,
    timeoutMs,
    observe: () => {},
  })

  async function publish(qos: QoS): Promise<TrialPublish> {
    const payload = `QoS ${qos}`
    const startedAt = performance.now()
    const arrival = new Promise<number>((resolve) => {
      arrivals.set(payload, () => resolve(millisecondsSince(startedAt)))
    })
    const message: Message = { topic, payload: Buffer.from(payload), qos, retain: false }
    try {
      const { reason } = await publisher.publish(message, share)
      const acknowledgedMs = millisecondsSince(startedAt)
      const arrivedMs = await withTimeout(arrival, ARRIVAL_MS).catch(() => undefined)
      return {
        qos,
        reason,
        ...(qos > 0 && { acknowledgedMs }),
        ...(arrivedMs !== undefined && { arrivedMs }),
      }
    } catch (error) {
      return { qos, fault: messageOf(error) }
    }
  }

  async function readVersion(network: NetworkConnection): Promise<string | undefined> {
    const arrival = new Promise<Buffer>((resolve) => arrivals.set(VERSION_TOPIC, resolve))
    try {
      await withTimeout(network.subscribe(VERSION_TOPIC, 0, { identifier: undefined, retained: 'always' }), timeoutMs)
      return (await withTimeout(arrival, VERSION_MS)).toString()
    } catch {
      return undefined
    }
  }

  try {
    await Promise.all([subscriber.attempted(), publisher.attempted()])
    whileConnected()
    const { network } = subscriber
    if (network === undefined) return undefined
    const trial: Trial = { topic, publishes: [] }
    try {
      const options = { identifier: undefined, retained: 'never' } as const
      trial.grantedQos = await withTimeout(network.subscribe(topic, 2, options), timeoutMs)
    } catch (error) {
      trial.fault = messageOf(error)
    }
    for (const qos of [0, 1, 2] as const) trial.publishes.push(await publish(qos))
    // Last, as some brokers close the connection over a subscription that they refuse.
    const version = await readVersion(network)
    return version === undefined ? trial : { ...trial, version }
  } finally {
    await Promise.all([subscriber.close(), publisher.close()])
  }
}

/** To a tenth: more digits say nothing about a broker. */
function millisecondsSince(startedAt: number): number {
  return Math.round((performance.now() - startedAt) * 10) / 10
}

function messageOf(error: unknown): string {
  return (error as Error).message
}
