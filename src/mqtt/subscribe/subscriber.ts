import { CausewayError } from '../../errors.ts'
import type { ConnectionOptions, ConnectionState } from '../connection.ts'
import type { Message, QoS } from '../message.ts'
import { SubscribeConnection } from './subscribe-connection.ts'
import { Subscription } from './subscription.ts'
import { TopicTree } from '../topic-tree.ts'

/** What happens to the targets of subscriptions. */
export interface SubscriberEvents<Target> {
  /** Called for each copy that arrives, before its targets are looked up. */
  received(message: Message): void
  /** One message. Each target gets it once, however many of its filters match. */
  message(message: Message, targets: ReadonlySet<Target>): void
  /**
   * One message of a shared subscription, for any one of these targets. The set is the same object for each message of
   * the subscription.
   */
  shared(message: Message, targets: ReadonlySet<Target>): void
  /** The connection to the broker was lost, or is back. */
  connected(connected: boolean, targets: Iterable<Target>): void
  /** Messages may have been missed while the connection was lost; all of them, if the broker lost the session. */
  gap(sessionLost: boolean, targets: Iterable<Target>): void
  /** The broker refuses a subscription that it granted before; no more messages come for it. */
  refused(error: CausewayError, targets: Iterable<Target>): void
}

export interface SubscriberOptions<Target> {
  /** Options of the connection at an index. */
  connection: (index: number) => Omit<ConnectionOptions, 'handlers'>
  /** Most connections. More than one is used only over MQTT 3.1.1, for filters that overlap. */
  connectionsMax: number
  /** How long to wait for SUBACK and UNSUBACK. */
  timeoutMs: number
  /** Whether to assume over MQTT 3.1.1 that the broker has shared subscriptions. */
  sharedOver311: boolean
  events: SubscriberEvents<Target>
}

/** A filter that is subscribed to, and on which connection. */
interface SubscribedFilter<Target> {
  subscription: Subscription<Target>
  connection: SubscribeConnection<Target>
}

/** The subscriptions of many targets. Each filter is subscribed to once, whatever the number of its targets. */
export class Subscriber<Target> {
  readonly #options: SubscriberOptions<Target>
  readonly #byFilter = new Map<string, SubscribedFilter<Target>>()
  readonly #byTopic = new TopicTree<Subscription<Target>[]>()
  readonly #connections: SubscribeConnection<Target>[] = []
  /** Connections that are lost, or whose subscriptions are not restored yet. */
  readonly #lost = new Set<SubscribeConnection<Target>>()
  #lastIdentifier = 0

  constructor(options: SubscriberOptions<Target>) {
    this.#options = options
    this.#connect()
  }

  get states(): ConnectionState[] {
    return this.#connections.map(({ state }) => state)
  }

  get filterCount(): number {
    return this.#byFilter.size
  }

  /** Resolves once every connection is established, or the first attempt at it has failed. */
  async attempted(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.attempted()))
  }

  /**
   * Resolves once the broker has granted every filter. From then on until `remove`, `events` includes this target.
   * @throws CausewayError if one of them is refused or the broker cannot be reached; the others are removed again
   */
  async add(target: Target, filters: readonly string[], qos: QoS): Promise<void> {
    await this.#connections[0]!.ready()
    try {
      const results = await Promise.allSettled(filters.map((filter) => this.#addOne(target, filter, qos)))
      const failed = results.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    } catch (error) {
      this.remove(target, filters)
      throw error
    }
  }

  remove(target: Target, filters: readonly string[]): void {
    for (const filter of filters) {
      const subscribed = this.#byFilter.get(filter)
      if (subscribed === undefined) continue
      const { subscription, connection } = subscribed
      subscription.targets.delete(target)
      if (subscription.targets.size === 0) this.#unsubscribe(subscription, connection)
    }
  }

  /** The lowest QoS that the broker granted for any of these filters; undefined where none is granted now. */
  grantedQoS(filters: readonly string[]): QoS | undefined {
    let lowest: QoS | undefined
    for (const filter of filters) {
      const granted = this.#byFilter.get(filter)?.subscription.grantedQoS
      if (granted !== undefined && (lowest === undefined || granted < lowest)) lowest = granted
    }
    return lowest
  }

  /**
   * Resolves once all messages that the broker has had so far for these filters have been passed to `events`.
   * @throws CausewayError if the broker cannot be reached, does not answer or, after a reconnect, refuses a filter
   */
  async settled(filters: readonly string[]): Promise<void> {
    const subscribed = filters.flatMap((filter) => this.#byFilter.get(filter) ?? [])
    await Promise.all(subscribed.map((one) => this.#granted(one)))
    const connections = new Set(subscribed.map(({ connection }) => connection))
    await Promise.all([...connections].map((connection) => connection.settled()))
  }

  /** Whether the first connection is established and the broker answers on it. */
  answers(): Promise<boolean> {
    return this.#connections[0]!.answers()
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }

  async #addOne(target: Target, filter: string, qos: QoS): Promise<void> {
    const subscribed = this.#byFilter.get(filter) ?? this.#create(filter)
    const { subscription } = subscribed
    subscription.targets.add(target)
    if (qos > subscription.qos) subscription.qos = qos
    await this.#granted(subscribed)
  }

  async #granted({ subscription, connection }: SubscribedFilter<Target>): Promise<void> {
    await connection.ready()
    await connection.sync(subscription)
  }

  /** Tries until the broker has answered. If the connection is lost, the reconnect tries again. */
  #unsubscribe(subscription: Subscription<Target>, connection: SubscribeConnection<Target>): void {
    connection.sync(subscription).catch(() => {
      if (subscription.targets.size === 0 && connection.state === 'connected') {
        this.#unsubscribe(subscription, connection)
      }
    })
  }

  #create(filter: string): SubscribedFilter<Target> {
    this.#lastIdentifier += 1
    const subscription = new Subscription<Target>(filter, this.#lastIdentifier)
    const connection = this.#connectionFor(subscription.topics)
    const subscribed = { subscription, connection }
    this.#byFilter.set(filter, subscribed)
    connection.subscriptions.add(subscription)
    this.#byTopic.set(subscription.topics, [...(this.#byTopic.get(subscription.topics) ?? []), subscription])
    return subscribed
  }

  /** Filters that overlap get different connections if no subscription identifiers tell their copies apart (3.1.1). */
  #connectionFor(topics: string): SubscribeConnection<Target> {
    const connection = this.#connections.find((candidate) => candidate.canAdd(topics))
    if (connection !== undefined) return connection
    if (this.#connections.length < this.#options.connectionsMax) return this.#connect()
    throw new CausewayError(
      'too-many-overlaps',
      `${topics} overlaps with filters on each of ${this.#connections.length} connections, ` +
        'which is all CAUSEWAY_SUBSCRIBE_CONNECTIONS_MAX allows',
      { retryAfter: 5 },
    )
  }

  #connect(): SubscribeConnection<Target> {
    const { connection, timeoutMs, sharedOver311, events } = this.#options
    const created: SubscribeConnection<Target> = new SubscribeConnection({
      connection: connection(this.#connections.length),
      timeoutMs,
      sharedOver311,
      events: {
        message: (message, identifiers) => this.#dispatch(created, message, identifiers),
        lost: () => {
          this.#lost.add(created)
          if (this.#lost.size === 1) events.connected(false, this.#allTargets())
        },
        restored: (sessionPresent) => {
          const interrupted = targetsOf(
            [...created.subscriptions].filter(
              (subscription) => !sessionPresent || subscription.mayLoseMessages || created.mayMissCopies(subscription),
            ),
          )
          if (interrupted.size > 0) events.gap(!sessionPresent, interrupted)
        },
        resubscribed: () => {
          this.#lost.delete(created)
          if (this.#lost.size === 0) events.connected(true, this.#allTargets())
        },
        refused: (error, subscription) => events.refused(error, new Set(subscription.targets)),
        removed: (subscription) => this.#remove(subscription),
      },
    })
    this.#connections.push(created)
    return created
  }

  /**
   * Passes one copy of a message to its targets. A broker may send a copy for each matching subscription. A target with
   * several matching filters gets only the copy of the oldest one.
   */
  #dispatch(connection: SubscribeConnection<Target>, message: Message, identifiers: readonly number[]): void {
    const { events } = this.#options
    events.received(message)
    // Over MQTT 3.1.1 the broker sends retained messages after every SUBSCRIBE. `Retained` reads them for new readers.
    if (message.retain) return
    const matching = this.#byTopic.match(message.topic).flat()
    matching.sort((a, b) => a.identifier - b.identifier)
    /** Targets of the subscriptions looked at so far. */
    const seen = new Set<Target>()
    const targets = new Set<Target>()
    for (const subscription of matching) {
      const isCopy = connection.isCopyFor(subscription, identifiers)
      if (isCopy && message.qos === 0) subscription.hasReceivedQoS0 = true
      if (subscription.isShared) {
        if (isCopy && subscription.targets.size > 0) events.shared(message, subscription.targets)
        continue
      }
      for (const target of subscription.targets) {
        if (isCopy && !seen.has(target)) targets.add(target)
        seen.add(target)
      }
    }
    if (targets.size > 0) events.message(message, targets)
  }

  #remove(subscription: Subscription<Target>): void {
    this.#byFilter.delete(subscription.filter)
    const others = this.#byTopic.get(subscription.topics)!.filter((other) => other !== subscription)
    if (others.length > 0) this.#byTopic.set(subscription.topics, others)
    else this.#byTopic.delete(subscription.topics)
  }

  #allTargets(): Set<Target> {
    return targetsOf([...this.#byFilter.values()].map(({ subscription }) => subscription))
  }
}

function targetsOf<Target>(subscriptions: Iterable<Subscription<Target>>): Set<Target> {
  const targets = new Set<Target>()
  for (const subscription of subscriptions) for (const target of subscription.targets) targets.add(target)
  return targets
}
