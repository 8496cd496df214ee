import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { CausewayError } from '../../errors.ts'
import type { Broker } from '../connection/broker.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { ConnectionOptions, ConnectionState } from '../connection.ts'
import type { Message, QoS } from '../message.ts'
import type { Markers } from '../markers.ts'
import type { MarkerPoint } from '../retained/snapshot.ts'
import { TopicTree } from '../topic-tree.ts'
import { plainFilter } from '../topic.ts'
import type { Copies } from './copies-trial.ts'
import { IDENTIFIER_MAX, Identifiers } from './identifiers.ts'
import { type Interruption, SubscribeConnection } from './subscribe-connection.ts'
import { Subscription } from './subscription.ts'
import { SUSPECT_CHARACTERS } from './topics-trial.ts'

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
  /** Messages may have been missed while the connection was lost. */
  gap(reason: Interruption, targets: Iterable<Target>): void
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
  /** How many messages the broker keeps for a client that is away; 0 for no limit. */
  brokerQueueMax: number
  /** Another client may use the same client ids, as they are configured. */
  mayShareClientId: boolean
  markers: Markers
  /** Topics whose messages are not for readers; a filter such as # brings them. */
  ignores: (topic: string) => boolean
  /**
   * A message arrived that matches no filter of its connection and does not say for which one it was sent. Nobody gets
   * it.
   */
  onUnmatched(topic: string): void
  events: SubscriberEvents<Target>
}

/** A filter that is subscribed to, and on which connection. */
interface SubscribedFilter<Target> {
  subscription: Subscription<Target>
  connection: SubscribeConnection<Target>
}

/** Which subscriptions match a topic. */
interface Matching<Target> {
  topic: string
  /** Those of which the targets get messages, on all connections; the oldest one first. */
  all: readonly SubscribedFilter<Target>[]
  subscriptions: ReadonlySet<Subscription<Target>>
  /** The oldest subscription of each target that matches: the one whose copy it gets. */
  first: ReadonlyMap<Target, Subscription<Target>>
  /** The targets that get a copy which was sent for one subscription alone. Filled when they are asked for. */
  targets: Map<Subscription<Target>, ReadonlySet<Target>>
}

/** Subscriptions, targets and pieces of text of topics that are remembered of the latest topics: about 1 MB. */
const MATCHING_MAX = 10_000
const MATCHING_TEXT = 64
/** A broker that seemed to keep the order is tried again after this, more thoroughly. */
const ORDER_AGAIN_MS = 1500
/** With the index of a connection it names the source of markers. */
const SOURCE = 'subscribe'

/** The subscriptions of many targets. Each filter is subscribed to once, whatever the number of its targets. */
export class Subscriber<Target> {
  readonly #options: SubscriberOptions<Target>
  readonly #byFilter = new Map<string, SubscribedFilter<Target>>()
  readonly #byTopic = new TopicTree<SubscribedFilter<Target>[]>()
  readonly #connections: SubscribeConnection<Target>[] = []
  readonly #identifiers: Identifiers
  readonly #broker: Broker
  /** Connections that are lost, or whose subscriptions are not restored yet. */
  readonly #lost = new Set<SubscribeConnection<Target>>()
  #redeliveryTrial: Promise<void> | undefined
  #age = 0
  /** For the latest topics: to look up who gets a message took as long as to write it as an event. */
  readonly #matching = new Map<string, Matching<Target>>()
  #matchingSize = 0

  constructor(options: SubscriberOptions<Target>) {
    this.#options = options
    // Where another client has the same client id, its identifiers are none of ours.
    this.#identifiers = new Identifiers(randomInt(IDENTIFIER_MAX))
    this.#broker = options.connection(0).broker
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
    await this.checkTopics(filters)
    void this.learnOrder()
    if (this.#mustTryCopies(filters)) this.#noteCopies(await this.#connections[0]!.tryCopies())
    try {
      const results = await Promise.allSettled(filters.map((filter) => this.#addOne(target, filter, qos)))
      const failed = results.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    } catch (error) {
      this.remove(target, filters)
      throw error
    }
  }

  /**
   * Refuses filters with characters that the broker changes on the way: what is published there arrives elsewhere.
   * @throws CausewayError
   */
  async checkTopics(filters: readonly string[]): Promise<void> {
    const suspects = filters.filter((filter) => changeable(filter, SUSPECT_CHARACTERS) !== undefined)
    if (suspects.length === 0) return
    await this.#learnTopics()
    for (const filter of suspects) {
      const character = changeable(filter, this.#learnt.changedCharacters ?? '')
      if (character === undefined) continue
      throw new CausewayError(
        'topic-not-supported',
        `The broker changes ${character} in topics, so messages to ${filter} arrive elsewhere`,
      )
    }
  }

  /**
   * Finds out all that can be known before the first subscription.
   * @throws CausewayError where the broker cannot be reached
   */
  async learn(): Promise<void> {
    const [first] = this.#connections
    await first!.ready()
    await this.#learnTopics()
    await this.learnOrder()
    if (this.#learnt.order === 'kept') await this.#tryOrderAgain(this.#learnt)
    if (first!.supportsIdentifiers) this.#noteCopies(await first!.tryCopies())
    await this.learnRedelivery()
  }

  /**
   * Finds out, once for each broker, whether it keeps the order. The publisher goes by it; until it is known, the order
   * counts as kept. No stream waits for it: the trial takes about ten round trips. Most brokers need none (`Learnt`).
   */
  async learnOrder(): Promise<void> {
    const learnt = this.#learnt
    if (learnt.order !== undefined) return
    const tryAgainLater = (): void =>
      void delay(ORDER_AGAIN_MS, undefined, { ref: false }).then(() => this.#tryOrderAgain(learnt))
    // Where the connection is lost meanwhile, the next stream tries it again.
    await this.#connections[0]!.learnOrder(tryAgainLater).catch(() => {})
  }

  /** Finds out, once for each broker, how it sends messages again that were not acknowledged: see `Learnt`. */
  async learnRedelivery(): Promise<void> {
    if (this.#learnt.redelivery !== undefined) return
    this.#redeliveryTrial ??= this.#connections[0]!.learnRedelivery()
      .catch(() => {})
      .finally(() => (this.#redeliveryTrial = undefined))
    await this.#redeliveryTrial
  }

  /** Settles once that is known or does not show; undefined where nobody finds it out now. */
  get learningRedelivery(): Promise<void> | undefined {
    return this.#redeliveryTrial
  }

  remove(target: Target, filters: readonly string[]): void {
    this.#forgetMatching()
    for (const filter of filters) {
      const subscribed = this.#byFilter.get(filter)
      if (subscribed === undefined) continue
      const { subscription, connection } = subscribed
      subscription.targets.delete(target)
      if (subscription.targets.size === 0) void connection.unsubscribe(subscription)
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

  /** Makes the connections of these filters show markers. To be called, and waited for, before `passed`. */
  async prepare(filters: readonly string[]): Promise<void> {
    await Promise.all([...this.#connectionsOf(filters)].map((connection) => connection.prepareMarkers()))
  }

  /**
   * Resolves once all messages have been passed to `events` that the broker had taken for these filters before the
   * marker.
   * @param marker undefined where markers do not work: then messages that the broker has had so far
   * @returns false where messages may still be on their way
   * @throws CausewayError if the broker cannot be reached, does not answer or, after a reconnect, refuses a filter
   */
  async passed(filters: readonly string[], marker: MarkerPoint | undefined): Promise<boolean> {
    const subscribed = filters.flatMap((filter) => this.#byFilter.get(filter) ?? [])
    await Promise.all(subscribed.map((one) => this.#granted(one)))
    const connections = [...this.#connectionsOf(filters)]
    const passed = await Promise.all(connections.map((connection) => connection.passed(marker)))
    return passed.every(Boolean)
  }

  /** Whether the first connection is established and the broker answers on it. */
  answers(): Promise<boolean> {
    return this.#connections[0]!.answers()
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }

  #connectionsOf(filters: readonly string[]): Set<SubscribeConnection<Target>> {
    return new Set(filters.flatMap((filter) => this.#byFilter.get(filter)?.connection ?? []))
  }

  get #learnt(): Learnt {
    return this.#broker.learnt
  }

  async #tryOrderAgain(learnt: Learnt): Promise<void> {
    const order = await this.#connections[0]!.tryOrderThoroughly().catch(() => undefined)
    if (order === 'mixed') learnt.order = order
  }

  async #learnTopics(): Promise<void> {
    if (this.#learnt.changedCharacters !== undefined) return
    const changed = await this.#connections[0]!.tryTopics()
    if (changed !== undefined) this.#learnt.changedCharacters = changed
  }

  #noteCopies(copies: Copies | undefined): void {
    if (copies !== undefined) this.#learnt.copies = copies
  }

  /** Whether filters of one connection would overlap, and it is not known what copies would come. */
  #mustTryCopies(filters: readonly string[]): boolean {
    if (this.#learnt.copies !== undefined || !this.#connections[0]!.supportsIdentifiers) return false
    const added = new TopicTree<true>()
    for (const filter of filters) {
      if (this.#byFilter.has(filter)) continue
      const topics = plainFilter(filter)
      if (added.someOverlapping(topics, () => true) || this.#byTopic.someOverlapping(topics, () => true)) return true
      added.set(topics, true)
    }
    return false
  }

  async #addOne(target: Target, filter: string, qos: QoS): Promise<void> {
    this.#forgetMatching()
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

  #create(filter: string): SubscribedFilter<Target> {
    const connection = this.#connectionFor(plainFilter(filter))
    this.#age += 1
    const subscription = new Subscription<Target>(filter, this.#identifiers.take(), this.#age)
    const subscribed = { subscription, connection }
    this.#byFilter.set(filter, subscribed)
    connection.add(subscription)
    const others = this.#byTopic.get(subscription.topics)
    if (others === undefined) this.#byTopic.set(subscription.topics, [subscribed])
    else others.push(subscribed)
    return subscribed
  }

  /**
   * A message that arrives must show which subscription it was sent for: by its identifier, or because no other
   * subscription on its connection matches its topic. So where identifiers do not tell copies apart (3.1.1, and some
   * brokers over MQTT 5), filters that overlap get different connections.
   */
  #connectionFor(topics: string): SubscribeConnection<Target> {
    const areToldApart = ({ supportsIdentifiers }: SubscribeConnection<Target>): boolean =>
      supportsIdentifiers && this.#learnt.copies !== 'mixed'
    const overlapping = new Set<SubscribeConnection<Target>>()
    const apart = this.#connections.filter(areToldApart)
    if (apart.length < this.#connections.length) {
      this.#byTopic.someOverlapping(topics, (subscribed) => {
        for (const { connection } of subscribed) overlapping.add(connection)
        return overlapping.size === this.#connections.length
      })
    }
    const found = this.#connections.find((candidate) => areToldApart(candidate) || !overlapping.has(candidate))
    if (found !== undefined) return found
    if (this.#connections.length < this.#options.connectionsMax) return this.#connect()
    throw new CausewayError(
      'too-many-overlaps',
      `${topics} overlaps with filters on each of ${this.#connections.length} connections, ` +
        'which is all CAUSEWAY_SUBSCRIBE_CONNECTIONS_MAX allows',
      { retryAfter: 5 },
    )
  }

  /**
   * Whether messages may be missing although the broker kept the session. Mosquitto 2.0 remembers a session over a
   * restart, but not that it was an MQTT 5 one. It then keeps one copy of a message for all filters that match it.
   */
  #mayMissCopies({ topics }: Subscription<Target>, connection: SubscribeConnection<Target>): boolean {
    if (!connection.supportsIdentifiers) return false
    let found = 0
    return this.#byTopic.someOverlapping(topics, (subscribed) => {
      for (const other of subscribed) if (other.connection === connection) found += 1
      // One of them is the subscription itself.
      return found > 1
    })
  }

  #connect(): SubscribeConnection<Target> {
    const { connection, timeoutMs, sharedOver311, brokerQueueMax, mayShareClientId, markers, ignores, events } =
      this.#options
    const index = this.#connections.length
    const created: SubscribeConnection<Target> = new SubscribeConnection({
      connection: connection(index),
      timeoutMs,
      sharedOver311,
      brokerQueueMax,
      mayShareClientId,
      markers,
      ignores,
      source: `${SOURCE}-${index}`,
      identifiers: this.#identifiers,
      events: {
        message: (message, identifiers) => this.#dispatch(created, message, identifiers),
        lost: () => {
          this.#lost.add(created)
          if (this.#lost.size === 1) events.connected(false, this.#allTargets())
        },
        restored: (sessionPresent) => {
          const loses = this.#learnt.redelivery === 'lost'
          const interrupted = targetsOf(
            [...created.subscriptions].filter(
              (subscription) =>
                !sessionPresent || loses || subscription.mayLoseMessages || this.#mayMissCopies(subscription, created),
            ),
          )
          if (interrupted.size > 0) {
            events.gap(sessionPresent && !loses ? 'broker-connection-lost' : 'broker-session-lost', interrupted)
          }
        },
        countsAnew: () => {
          if (this.#learnt.redelivery !== undefined) return
          void this.learnRedelivery().then(() => {
            const interrupted = targetsOf(created.subscriptions)
            if (this.#learnt.redelivery === 'lost' && interrupted.size > 0) {
              events.gap('broker-session-lost', interrupted)
            }
          })
        },
        resubscribed: () => {
          this.#lost.delete(created)
          if (this.#lost.size === 0) events.connected(true, this.#allTargets())
        },
        queueOverflowed: () => {
          const interrupted = targetsOf(created.subscriptions)
          if (interrupted.size > 0) events.gap('broker-queue', interrupted)
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
    const { events, onUnmatched } = this.#options
    events.received(message)
    // Over MQTT 3.1.1 the broker sends retained messages after every SUBSCRIBE. `Retained` reads them for new readers.
    if (message.retain) return
    if (identifiers.length > 0) {
      // Whatever its topic is: brokers deliver messages of $queue/…, $exclusive/… and of rewritten topics under another
      // one than the filter's.
      const subscriptions = identifiers.flatMap((identifier) => connection.byIdentifier(identifier) ?? [])
      return this.#deliver(message, subscriptions.length > 1 ? [...new Set(subscriptions)] : subscriptions)
    }
    const subscriptions = this.#matchingOf(message.topic)
      .all.filter((one) => one.connection === connection)
      .map(({ subscription }) => subscription)
    if (subscriptions.length === 0) return onUnmatched(message.topic)
    // The broker said that it sends identifiers.
    if (subscriptions.length > 1 && connection.supportsIdentifiers) this.#noteCopies('mixed')
    this.#deliver(message, subscriptions)
  }

  /** @param subscriptions those that this copy was sent for, each once */
  #deliver(message: Message, subscriptions: readonly Subscription<Target>[]): void {
    const { events } = this.#options
    for (const subscription of subscriptions) {
      if (message.qos === 0) subscription.hasReceivedQoS0 = true
      if (subscription.isShared && subscription.targets.size > 0) events.shared(message, subscription.targets)
    }
    const matching = this.#matchingOf(message.topic)
    // One text for all messages of the topic, as logs keep thousands of them.
    message.topic = matching.topic
    const targets = this.#targetsOf(matching, subscriptions)
    if (targets.size > 0) events.message(message, targets)
  }

  /** Who gets the copy of a message that was sent for these subscriptions; not those of shared ones. */
  #targetsOf(matching: Matching<Target>, subscriptions: readonly Subscription<Target>[]): ReadonlySet<Target> {
    const only = subscriptions.length === 1 ? subscriptions[0] : undefined
    const known = only && matching.targets.get(only)
    if (known !== undefined) return known
    const sentFor = new Set(subscriptions)
    const targets = new Set<Target>()
    for (const subscription of sentFor) {
      if (subscription.isShared) continue
      // Of a topic that the filter does not match, nothing shows other copies.
      const isOnlyCopy = !matching.subscriptions.has(subscription)
      for (const target of subscription.targets) {
        if (isOnlyCopy || sentFor.has(matching.first.get(target)!)) targets.add(target)
      }
    }
    if (only !== undefined) {
      matching.targets.set(only, targets)
      this.#matchingSize += targets.size
    }
    return targets
  }

  #matchingOf(topic: string): Matching<Target> {
    const known = this.#matching.get(topic)
    if (known !== undefined) return known
    const all = this.#byTopic.match(topic).flat()
    all.sort((a, b) => a.subscription.age - b.subscription.age)
    const first = new Map<Target, Subscription<Target>>()
    for (const { subscription } of all) {
      if (subscription.isShared) continue
      for (const target of subscription.targets) if (!first.has(target)) first.set(target, subscription)
    }
    const subscriptions = new Set(all.map(({ subscription }) => subscription))
    const matching = { topic, all, subscriptions, first, targets: new Map() }
    const size = 1 + all.length + first.size + topic.length / MATCHING_TEXT
    if (this.#matchingSize + size > MATCHING_MAX) this.#forgetMatching()
    this.#matching.set(topic, matching)
    this.#matchingSize += size
    return matching
  }

  /** To be called whenever a subscription or one of its targets comes or goes. */
  #forgetMatching(): void {
    this.#matching.clear()
    this.#matchingSize = 0
  }

  #remove(subscription: Subscription<Target>): void {
    this.#forgetMatching()
    this.#byFilter.delete(subscription.filter)
    const others = this.#byTopic.get(subscription.topics)!.filter((other) => other.subscription !== subscription)
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

/** The first of these characters that the filter has. */
function changeable(filter: string, characters: string): string | undefined {
  return [...characters].find((character) => filter.includes(character))
}
