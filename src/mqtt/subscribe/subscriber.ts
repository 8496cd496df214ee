import { CausewayError } from '../../errors.ts'
import type { ConnectionOptions, ConnectionState } from '../connection.ts'
import type { Message, QoS } from '../message.ts'
import { SubscribeConnection } from './subscribe-connection.ts'
import { Subscription } from './subscription.ts'
import { TopicTree } from '../topic-tree.ts'

/** What happens to targets. */
export interface SubscriberEvents<Target> {
  /** Each copy that arrives, before it is known whom it is for. */
  received(message: Message): void
  /** One message, once for each target, however many of its filters match. */
  message(message: Message, targets: Iterable<Target>): void
  /** One message of a shared subscription, for one of these targets: a set that lives as long as the subscription. */
  shared(message: Message, targets: ReadonlySet<Target>): void
  /** The broker went or came back. */
  connected(connected: boolean, targets: Iterable<Target>): void
  /** Messages may have been missed while the broker was away, or all there were, where it lost the session. */
  gap(sessionLost: boolean, targets: Iterable<Target>): void
  /** The broker refuses a subscription it granted before; from that filter nothing comes any more. */
  refused(error: CausewayError, targets: Iterable<Target>): void
}

export interface SubscriberOptions<Target> {
  /** Options of the connection at an index. */
  connection: (index: number) => Omit<ConnectionOptions, 'handlers'>
  /** Most connections; more than one is used only where copies of a message cannot be told apart. */
  connectionsMax: number
  /** How long to wait for SUBACK and UNSUBACK. */
  timeoutMs: number
  /** Whether $share may be sent over MQTT 3.1.1. */
  sharedOver311: boolean
  events: SubscriberEvents<Target>
}

interface Entry<Target> {
  subscription: Subscription<Target>
  connection: SubscribeConnection<Target>
}

/** Subscriptions of many targets. Each filter is subscribed to once, whatever the number of its targets. */
export class Subscriber<Target> {
  readonly #options: SubscriberOptions<Target>
  readonly #byFilter = new Map<string, Entry<Target>>()
  readonly #byTopic = new TopicTree<Subscription<Target>[]>()
  readonly #connections: SubscribeConnection<Target>[] = []
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

  /** Resolves once every connection is made, or the first attempt at it has failed. */
  async attempted(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.attempted()))
  }

  /**
   * Resolves once the broker has granted every filter; until `remove`, `events` then speaks of this target.
   * @throws CausewayError where one of them is refused or the broker is away; the others are given back
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
      const entry = this.#byFilter.get(filter)
      if (entry === undefined) continue
      entry.subscription.targets.delete(target)
      if (entry.subscription.targets.size === 0) this.#giveBack(entry.subscription, entry.connection)
    }
  }

  /**
   * Resolves once all the broker has had so far for these filters has been handed on.
   * @throws CausewayError where the broker is away, does not answer or, behind a reconnect, refuses one of them
   */
  async settled(filters: readonly string[]): Promise<void> {
    const entries = filters.flatMap((filter) => this.#byFilter.get(filter) ?? [])
    await Promise.all(entries.map((entry) => this.#granted(entry)))
    const connections = new Set(entries.map(({ connection }) => connection))
    await Promise.all([...connections].map((connection) => connection.settled()))
  }

  /** Whether the broker answers on a connection that stands. */
  answers(): Promise<boolean> {
    return this.#connections[0]!.answers()
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }

  async #addOne(target: Target, filter: string, qos: QoS): Promise<void> {
    const entry = this.#byFilter.get(filter) ?? this.#create(filter)
    const { subscription } = entry
    subscription.targets.add(target)
    if (qos > subscription.qos) subscription.qos = qos
    await this.#granted(entry)
  }

  async #granted({ subscription, connection }: Entry<Target>): Promise<void> {
    await connection.ready()
    await connection.sync(subscription)
  }

  /** Unsubscribes, as often as it takes; where the connection is gone, the next one does. */
  #giveBack(subscription: Subscription<Target>, connection: SubscribeConnection<Target>): void {
    connection.sync(subscription).catch(() => {
      if (subscription.targets.size === 0 && connection.state === 'connected') this.#giveBack(subscription, connection)
    })
  }

  #create(filter: string): Entry<Target> {
    this.#lastIdentifier += 1
    const subscription = new Subscription<Target>(filter, this.#lastIdentifier)
    const entry = { subscription, connection: this.#place(subscription.topics) }
    this.#byFilter.set(filter, entry)
    entry.connection.subscriptions.add(subscription)
    this.#byTopic.set(subscription.topics, [...(this.#byTopic.get(subscription.topics) ?? []), subscription])
    return entry
  }

  /** Where identifiers do not tell copies apart (3.1.1), filters that overlap go to different connections. */
  #place(topics: string): SubscribeConnection<Target> {
    const connection = this.#connections.find((candidate) => candidate.takes(topics))
    if (connection !== undefined) return connection
    if (this.#connections.length < this.#options.connectionsMax) return this.#connect()
    throw new CausewayError(
      'too-many-overlaps',
      `${topics} overlaps with filters on each of ${this.#connections.length} connections, which is all CAUSEWAY_SUBSCRIBE_CONNECTIONS_MAX allows`,
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
        over: (subscription) => this.#forget(subscription),
      },
    })
    this.#connections.push(created)
    return created
  }

  /**
   * Whom this copy of a message is for. A broker may send one copy for each matching subscription, so of a target's
   * matching filters the oldest alone owns its copy.
   */
  #dispatch(connection: SubscribeConnection<Target>, message: Message, identifiers: readonly number[]): void {
    const { events } = this.#options
    events.received(message)
    // Over 3.1.1 every SUBSCRIBE brings the retained messages again, whoever else has had them.
    if (message.retain) return
    const matching = this.#byTopic.match(message.topic).flat()
    matching.sort((a, b) => a.identifier - b.identifier)
    const owned = new Set<Target>()
    const targets = new Set<Target>()
    for (const subscription of matching) {
      const isCopy = connection.isCopyFor(subscription, identifiers)
      if (isCopy && message.qos === 0) subscription.sawQoS0 = true
      if (subscription.isShared) {
        if (isCopy && subscription.targets.size > 0) events.shared(message, subscription.targets)
        continue
      }
      for (const target of subscription.targets) {
        if (isCopy && !owned.has(target)) targets.add(target)
        owned.add(target)
      }
    }
    if (targets.size > 0) events.message(message, targets)
  }

  #forget(subscription: Subscription<Target>): void {
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
