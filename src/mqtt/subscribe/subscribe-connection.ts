import { CausewayError } from '../../errors.ts'
import { type Capabilities, checkSubscribe } from '../capabilities.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from '../client/network-connection.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import type { Message } from '../message.ts'
import { filtersOverlap } from '../topic.ts'
import { withTimeout } from '../with-timeout.ts'
import type { Subscription } from './subscription.ts'

export interface SubscribeConnectionEvents<Target> {
  message(message: Message, identifiers: readonly number[]): void
  lost(): void
  /** Connected again. `sessionPresent`: the broker kept the subscriptions and the messages that came for them. */
  restored(sessionPresent: boolean): void
  /** Called after `restored`, once every subscription is at the broker again, or refused. */
  resubscribed(): void
  refused(error: CausewayError, subscription: Subscription<Target>): void
  /** The subscription has no target, and the broker does not have it any more. */
  removed(subscription: Subscription<Target>): void
}

export interface SubscribeConnectionOptions<Target> {
  connection: Omit<ConnectionOptions, 'handlers' | 'sharedOver311'>
  timeoutMs: number
  /** Whether to assume over MQTT 3.1.1 that the broker has shared subscriptions. */
  sharedOver311: boolean
  events: SubscribeConnectionEvents<Target>
}

/** Fewer messages than any broker sends before it waits for acknowledgements; Mosquitto's default is 20. */
const WINDOW_MIN = 10
const ROUND_TRIPS_MAX = 100
/** With more subscriptions, comparing each with every other one would block the event loop for too long. */
const OVERLAPS_CHECKED_MAX = 500

/** One connection and the subscriptions on it, which are restored after each loss. */
export class SubscribeConnection<Target> implements ConnectionHandlers {
  readonly subscriptions = new Set<Subscription<Target>>()
  readonly #options: SubscribeConnectionOptions<Target>
  readonly #connection: Connection
  #wasConnected = false

  constructor(options: SubscribeConnectionOptions<Target>) {
    const { connection, sharedOver311 } = options
    this.#options = options
    this.#connection = new Connection({ ...connection, sharedOver311, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /**
   * Resolves once it is connected.
   * @throws CausewayError if the first attempt failed
   */
  async ready(): Promise<void> {
    await this.#connection.ready()
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /**
   * Whether a subscription for these topics can be added here: a message that arrives must show which subscription it
   * was sent for, by its identifier or because no other subscription here matches its topic.
   */
  canAdd(topics: string): boolean {
    if (this.#connection.capabilities?.subscriptionIdentifiers) return true
    for (const subscription of this.subscriptions) if (filtersOverlap(subscription.topics, topics)) return false
    return true
  }

  /**
   * Whether messages may be missing although the broker kept the session. Mosquitto 2.0 remembers a session over a
   * restart, but not that it was an MQTT 5 one. It then keeps one copy of a message for all filters that match it.
   */
  mayMissCopies(subscription: Subscription<Target>): boolean {
    if (!this.#connection.capabilities?.subscriptionIdentifiers) return false
    if (this.subscriptions.size > OVERLAPS_CHECKED_MAX) return true
    for (const other of this.subscriptions) {
      if (other !== subscription && filtersOverlap(other.topics, subscription.topics)) return true
    }
    return false
  }

  /** Whether a copy that arrived here with these identifiers was sent for this subscription. */
  isCopyFor(subscription: Subscription<Target>, identifiers: readonly number[]): boolean {
    return (
      this.subscriptions.has(subscription) &&
      (identifiers.length === 0 || identifiers.includes(subscription.identifier))
    )
  }

  /**
   * Subscribes or unsubscribes at the broker, as the subscription's targets require.
   * @throws CausewayError if the broker refuses it or cannot be reached; later calls and reconnects try again
   */
  async sync(subscription: Subscription<Target>): Promise<void> {
    const { timeoutMs, events } = this.#options
    try {
      await subscription.sync(() => {
        const network = this.#connection.requireNetwork()
        const capabilities = this.#connection.capabilities!
        checkSubscribe(subscription.filter, capabilities)
        return { network, supportsIdentifiers: capabilities.subscriptionIdentifiers, timeoutMs }
      })
    } finally {
      if (subscription.isRemoved && this.subscriptions.delete(subscription)) events.removed(subscription)
    }
  }

  /**
   * Resolves once all messages that the broker has for us now have arrived, those that it kept while the connection was
   * lost included. A message that waits at the broker for earlier acknowledgements arrives after a later PINGRESP. Only
   * a round trip with fewer messages than fill the broker's window shows that none waits. Under a load that always
   * fills the window nothing shows it, so after 100 round trips this resolves anyway.
   * @throws CausewayError if the broker cannot be reached or does not answer
   */
  async settled(): Promise<void> {
    const network = await this.#connection.ready()
    let tripsLeft = SETTLING_ROUND_TRIPS
    for (let trips = 0; trips < ROUND_TRIPS_MAX && tripsLeft > 0; trips += 1) {
      if (this.#connection.requireNetwork() !== network) {
        throw new CausewayError('broker-unavailable', 'The connection to the broker was lost', { retryAfter: 1 })
      }
      const before = network.inboundPackets
      await withTimeout(network.roundTrip(), this.#options.timeoutMs)
      // The first quiet round trip begins the count; after that every round trip counts.
      if (tripsLeft < SETTLING_ROUND_TRIPS || network.inboundPackets - before < WINDOW_MIN) tripsLeft -= 1
    }
  }

  /** Whether it is connected and the broker answers. */
  async answers(): Promise<boolean> {
    const { network } = this.#connection
    if (network === undefined) return false
    return withTimeout(network.roundTrip(), this.#options.timeoutMs).then(
      () => true,
      () => false,
    )
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  connected(network: NetworkConnection, _capabilities: Capabilities, sessionPresent: boolean): void {
    const { events } = this.#options
    const isReconnect = this.#wasConnected
    this.#wasConnected = true
    if (isReconnect) events.restored(sessionPresent)
    const synced = [...this.subscriptions].map((subscription) => {
      if (!sessionPresent) subscription.markGone()
      return this.sync(subscription).catch((error: CausewayError) => {
        // Requests fail when the connection is lost, possibly before `lost` is called. That is no refusal.
        if (this.#connection.network === network && error.kind.code !== 'broker-unavailable') {
          events.refused(error, subscription)
        }
      })
    })
    if (!isReconnect) return
    // The messages that a kept session holds follow CONNACK at once.
    if (sessionPresent) events.resubscribed()
    else void Promise.all(synced).then(() => this.#connection.network === network && events.resubscribed())
  }

  lost(): void {
    this.#options.events.lost()
  }

  message(message: Message, identifiers: readonly number[]): void {
    this.#options.events.message(message, identifiers)
  }
}
