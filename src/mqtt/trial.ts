import type { MemoryShare } from '../memory/account.ts'
import { NO_MATCHING_SUBSCRIBERS } from './reason-codes.ts'
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

/** What the broker did where MQTT leaves a choice, or brokers differ. Missing: it did not answer, or refused. */
export interface Findings {
  /** Whether PUBACK says that nobody subscribes to the topic (MQTT 5). */
  saysNobodySubscribes?: boolean
  /** Whether a shared subscription gets messages. Over MQTT 3.1.1 no broker says so. */
  sharedSubscriptions?: boolean
  /** How many copies of a message come where two filters of one connection match it. */
  copiesOfOverlaps?: number
  /** Whether a retained message comes for its topic, and for a filter with a wildcard. */
  retained?: boolean
  retainedForWildcards?: boolean
}

export interface Trial {
  topic: string
  /** The QoS that the broker granted to the subscription; undefined where it refused it. */
  grantedQos?: QoS
  /** Why there is no subscription. */
  fault?: string
  publishes: TrialPublish[]
  findings: Findings
  /** What the broker publishes as its version; undefined where it publishes none or does not allow to read it. */
  version?: string
}

/** Mosquitto, FlashMQ, HiveMQ and others have a retained message there. MQTT itself has no such thing. */
const VERSION_TOPIC = '$SYS/broker/version'
/** A message that takes longer to come back counts as lost. */
const ARRIVAL_MS = 2000
/** The same for one that may come behind others that were published later. */
const LATE_MS = 500

/**
 * Connects and tries the broker out with a few messages below one topic. Retained ones are deleted again.
 * @param whileConnected called before the connections are closed
 * @returns undefined where there is no connection; `broker.reports` then says why
 */
export async function tryBroker(options: TrialOptions, whileConnected: () => void): Promise<Trial | undefined> {
  const run = new TrialRun(options)
  try {
    const isConnected = await run.connect()
    whileConnected()
    return isConnected ? await run.trial() : undefined
  } finally {
    await run.close()
  }
}

/** The messages that came. */
class Inbox {
  readonly #messages: Message[] = []
  readonly #listeners = new Set<() => void>()

  take(message: Message): void {
    this.#messages.push(message)
    for (const listener of this.#listeners) listener()
  }

  find(topic: string, text?: string): Message[] {
    return this.#messages.filter(
      (message) => message.topic === topic && (text === undefined || message.payload.toString() === text),
    )
  }

  /** Undefined where none comes in time. */
  async wait(timeoutMs: number, topic: string, text?: string): Promise<Message | undefined> {
    let listener = () => {}
    const arrival = new Promise<Message>((resolve) => {
      listener = () => {
        const [found] = this.find(topic, text)
        if (found !== undefined) resolve(found)
      }
      listener()
      this.#listeners.add(listener)
    })
    try {
      return await withTimeout(arrival, timeoutMs)
    } catch {
      return undefined
    } finally {
      this.#listeners.delete(listener)
    }
  }
}

class TrialRun {
  readonly #options: TrialOptions
  readonly #inbox = new Inbox()
  readonly #subscriber: Connection
  readonly #publisher: Publisher
  #markers = 0

  constructor(options: TrialOptions) {
    const { broker, clientId, timeoutMs } = options
    this.#options = options
    this.#subscriber = new Connection({
      role: 'subscribe',
      broker,
      clientId: `${clientId}-subscribe`,
      keepSession: false,
      handlers: { message: (message) => this.#inbox.take(message) },
    })
    this.#publisher = new Publisher({
      connections: 1,
      connection: () => ({ role: 'publish', broker, clientId: `${clientId}-publish`, keepSession: false }),
      maxInFlight: 10,
      maxInFlightBytes: 1024,
      waitMaxMs: timeoutMs,
      timeoutMs,
      observe: () => {},
    })
  }

  /** @returns whether the broker is there */
  async connect(): Promise<boolean> {
    await Promise.all([this.#subscriber.attempted(), this.#publisher.attempted()])
    return this.#subscriber.network !== undefined
  }

  async close(): Promise<void> {
    await Promise.all([this.#subscriber.close(), this.#publisher.close()])
  }

  async trial(): Promise<Trial> {
    const { topic } = this.#options
    const trial: Trial = { topic, publishes: [], findings: {} }
    try {
      trial.grantedQos = await this.#subscribe(topic, 'never', 2)
    } catch (error) {
      trial.fault = messageOf(error)
    }
    for (const qos of [0, 1, 2] as const) trial.publishes.push(await this.#tryPublish(qos))
    // Without the subscription to the topic itself, what does not come says nothing.
    if (trial.fault === undefined) trial.findings = await this.#find()
    // Last, as some brokers close the connection over a subscription that they refuse.
    const version = await this.#readVersion()
    return version === undefined ? trial : { ...trial, version }
  }

  async #tryPublish(qos: QoS): Promise<TrialPublish> {
    const { topic } = this.#options
    const text = `QoS ${qos}`
    const startedAt = performance.now()
    const arrival = this.#inbox.wait(ARRIVAL_MS, topic, text).then((found) => found && millisecondsSince(startedAt))
    try {
      const { reason } = await this.#publish(topic, text, qos)
      const acknowledgedMs = millisecondsSince(startedAt)
      const arrivedMs = await arrival
      return { qos, reason, ...(qos > 0 && { acknowledgedMs }), ...(arrivedMs !== undefined && { arrivedMs }) }
    } catch (error) {
      return { qos, fault: messageOf(error) }
    }
  }

  /** All topics are beside the first one, as access rules may allow one level below the marker topic only. */
  async #find(): Promise<Findings> {
    const { topic } = this.#options
    const ways: { [Name in keyof Findings]-?: () => Promise<Findings[Name]> } = {
      saysNobodySubscribes: async () => {
        return (await this.#publish(`${topic}-nobody`, 'x', 1)).reasonCode === NO_MATCHING_SUBSCRIBERS
      },
      sharedSubscriptions: async () => {
        await this.#subscribe(`$share/check/${topic}-shared`, 'never', 1)
        await this.#publish(`${topic}-shared`, 'x', 1)
        return (await this.#arrived(`${topic}-shared`)) > 0
      },
      copiesOfOverlaps: async () => {
        for (const filter of [`${topic}-overlap`, `${topic}-overlap/#`]) await this.#subscribe(filter, 'never', 1)
        await this.#publish(`${topic}-overlap`, 'x', 1)
        return this.#arrived(`${topic}-overlap`)
      },
      retained: () => this.#tryRetained(`${topic}-retained`, `${topic}-retained`),
      retainedForWildcards: () => this.#tryRetained(`${topic}-wildcard`, `${topic}-wildcard/#`),
    }
    const findings: Record<string, unknown> = {}
    for (const [name, find] of Object.entries(ways)) {
      try {
        findings[name] = await find()
      } catch {
        // What the broker refuses it has not shown, and it may have closed the connection.
        await this.connect()
      }
    }
    return findings
  }

  async #tryRetained(topic: string, filter: string): Promise<boolean> {
    await this.#publish(topic, 'kept', 1, true)
    try {
      await this.#subscribe(filter, 'always', 1)
      return (await this.#arrived(topic)) > 0
    } finally {
      await this.#publish(topic, '', 1, true)
    }
  }

  /**
   * How many messages of a topic have come. Brokers hand messages on in the order in which they took them, so all are
   * there when a later one is; retained ones may come later.
   */
  async #arrived(topic: string): Promise<number> {
    const text = `marker ${(this.#markers += 1)}`
    await this.#publish(this.#options.topic, text, 1)
    await this.#inbox.wait(ARRIVAL_MS, this.#options.topic, text)
    await this.#inbox.wait(LATE_MS, topic)
    return this.#inbox.find(topic).length
  }

  async #readVersion(): Promise<string | undefined> {
    try {
      await this.#subscribe(VERSION_TOPIC, 'always', 0)
      return (await this.#inbox.wait(LATE_MS, VERSION_TOPIC))?.payload.toString()
    } catch {
      return undefined
    }
  }

  #subscribe(filter: string, retained: 'always' | 'never', qos: QoS): Promise<QoS> {
    const network = this.#subscriber.requireNetwork()
    return withTimeout(network.subscribe(filter, qos, { identifier: undefined, retained }), this.#options.timeoutMs)
  }

  #publish(topic: string, text: string, qos: QoS, retain = false): ReturnType<Publisher['publish']> {
    const message: Message = { topic, payload: Buffer.from(text), qos, retain }
    return this.#publisher.publish(message, this.#options.share)
  }
}

/** To a tenth: more digits say nothing about a broker. */
function millisecondsSince(startedAt: number): number {
  return Math.round((performance.now() - startedAt) * 10) / 10
}

function messageOf(error: unknown): string {
  return (error as Error).message
}
