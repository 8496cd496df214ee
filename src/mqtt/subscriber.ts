import { CausewayError } from '../errors.ts'
import { type Capabilities, checkSubscribe } from './capabilities.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { Message, QoS } from './message.ts'
import type { NetworkConnection } from './network-connection.ts'
import { Subscription } from './subscription.ts'
import { TopicTree } from './topic-tree.ts'

/** What happens to targets. */
export interface SubscriberEvents<Target> {
  /** One message, once for each target, however many of its filters match. */
  message(message: Message, targets: Iterable<Target>): void
  /** Each copy that arrives, before it is known whom it is for. */
  received(message: Message): void
  /** The broker went or came back. */
  connected(connected: boolean, targets: Iterable<Target>): void
  /** Messages may have been missed while the broker was away, or all there were, where it lost the session. */
  gap(sessionLost: boolean, targets: Iterable<Target>): void
  /** The broker refuses a subscription it granted before; from that filter nothing comes any more. */
  refused(error: CausewayError, targets: Iterable<Target>): void
}

export interface SubscriberOptions<Target> {
  connection: Omit<ConnectionOptions, 'handlers'>
  /** How long to wait for SUBACK and UNSUBACK. */
  timeoutMs: number
  events: SubscriberEvents<Target>
}

/** Subscriptions of many targets over one connection. Each filter is subscribed to once, whatever the number of its targets. */
export class Subscriber<Target> implements ConnectionHandlers {
  readonly #subscriptions = new TopicTree<Subscription<Target>>()
  readonly #events: SubscriberEvents<Target>
  readonly #timeoutMs: number
  readonly #connection: Connection
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined
  #lastIdentifier = 0

  constructor({ connection, timeoutMs, events }: SubscriberOptions<Target>) {
    this.#timeoutMs = timeoutMs
    this.#events = events
    this.#connection = new Connection({ ...connection, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** Resolves once the connection is made, or the first attempt at it has failed. */
  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /** MQTT 5 or 3.1.1 (4), of the last connection there was. */
  get protocol(): 5 | 4 | undefined {
    return this.#capabilities?.protocol
  }

  get filterCount(): number {
    return this.#subscriptions.size
  }

  /**
   * Resolves once the broker has granted every filter; until `remove`, `events` then speaks of this target.
   * @throws CausewayError where one of them is refused or the broker is away; the others are given back
   */
  async add(target: Target, filters: readonly string[], qos: QoS): Promise<void> {
    await this.#connection.attempted()
    if (this.#unavailable !== undefined) throw this.#unavailable
    const subscriptions = filters.map((filter) => this.#subscription(filter))
    for (const subscription of subscriptions) {
      subscription.targets.add(target)
      if (qos > subscription.qos) subscription.qos = qos
    }
    const results = await Promise.allSettled(subscriptions.map((subscription) => this.#sync(subscription)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed === undefined) return
    this.remove(target, filters)
    throw failed.reason
  }

  remove(target: Target, filters: readonly string[]): void {
    for (const filter of filters) {
      const subscription = this.#subscriptions.get(filter)
      subscription?.targets.delete(target)
      // Where it fails because the connection is gone, the next one tries again.
      if (subscription?.targets.size === 0) this.#sync(subscription).catch(() => {})
    }
  }

  async close(): Promise<void> {
    await this.#connection.close()
  }

  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    const wasConnected = this.#capabilities !== undefined
    this.#network = network
    this.#capabilities = capabilities
    this.#unavailable = undefined
    const subscriptions = [...this.#subscriptions.values()].sort((a, b) => a.identifier - b.identifier)
    if (wasConnected) {
      const interrupted = targetsOf(subscriptions.filter((subscription) => !sessionPresent || subscription.mayLoseMessages))
      if (interrupted.size > 0) this.#events.gap(!sessionPresent, interrupted)
      this.#events.connected(true, targetsOf(subscriptions))
    }
    for (const subscription of subscriptions) {
      if (!sessionPresent) subscription.forgotten()
      this.#sync(subscription).catch((error: CausewayError) => {
        if (this.#network === network) this.#events.refused(error, new Set(subscription.targets))
      })
    }
  }

  lost(): void {
    this.#network = undefined
    this.#events.connected(false, targetsOf(this.#subscriptions.values()))
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
  }

  message(message: Message, identifiers: readonly number[]): void {
    this.#events.received(message)
    // On a 3.1.1 broker every SUBSCRIBE brings the retained messages again, whoever else has had them.
    if (message.retain) return
    const targets = this.#owners(this.#subscriptions.match(message.topic), message, identifiers)
    if (targets.size > 0) this.#events.message(message, targets)
  }

  /**
   * Whom this copy of a message is for. A broker may send one copy for each matching subscription, so of a target's
   * matching filters the oldest alone owns its copy. Without identifiers (3.1.1) there is one copy for all.
   */
  #owners(matching: Subscription<Target>[], { qos }: Message, identifiers: readonly number[]): Set<Target> {
    const isCopyFor = ({ identifier }: Subscription<Target>) => identifiers.length === 0 || identifiers.includes(identifier)
    const targets = new Set<Target>()
    const elsewhere = new Set<Target>()
    for (const subscription of matching.sort((a, b) => a.identifier - b.identifier)) {
      const isOwner = isCopyFor(subscription)
      if (isOwner && qos === 0) subscription.sawQoS0 = true
      if (isOwner && matching.length === 1) return subscription.targets
      for (const target of subscription.targets) {
        if (isOwner && !elsewhere.has(target)) targets.add(target)
        else if (!targets.has(target)) elsewhere.add(target)
      }
    }
    return targets
  }

  #subscription(filter: string): Subscription<Target> {
    let subscription = this.#subscriptions.get(filter)
    if (subscription === undefined) {
      this.#lastIdentifier += 1
      subscription = new Subscription(filter, this.#lastIdentifier)
      this.#subscriptions.set(filter, subscription)
    }
    return subscription
  }

  async #sync(subscription: Subscription<Target>): Promise<void> {
    await subscription.sync(() => {
      if (this.#network === undefined) throw this.#unavailable ?? new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
      checkSubscribe(subscription.filter, this.#capabilities!)
      return { network: this.#network, identifiers: this.#capabilities!.subscriptionIdentifiers, timeoutMs: this.#timeoutMs }
    })
    if (subscription.isOver && this.#subscriptions.get(subscription.filter) === subscription) this.#subscriptions.delete(subscription.filter)
  }
}

function targetsOf<Target>(subscriptions: Iterable<Subscription<Target>>): Set<Target> {
  const targets = new Set<Target>()
  for (const subscription of subscriptions) for (const target of subscription.targets) targets.add(target)
  return targets
}
