import { CausewayError } from '../../errors.ts'
import { withTimeout } from '../with-timeout.ts'
import { type Capabilities, checkSubscribe, withSharedOver311 } from '../capabilities.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import type { Message } from '../message.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from '../client/network-connection.ts'
import type { Subscription } from './subscription.ts'
import { filtersOverlap } from '../topic.ts'

export interface SubscribeConnectionEvents<Target> {
  message(message: Message, identifiers: readonly number[]): void
  lost(): void
  /** It is back. `sessionPresent` says whether the broker kept the subscriptions and what came for them. */
  restored(sessionPresent: boolean): void
  /** Behind that: every subscription is there, or refused. */
  resubscribed(): void
  refused(error: CausewayError, subscription: Subscription<Target>): void
  /** Nobody wants it and the broker does not have it any more. */
  over(subscription: Subscription<Target>): void
}

export interface SubscribeConnectionOptions<Target> {
  connection: Omit<ConnectionOptions, 'handlers'>
  timeoutMs: number
  /** Whether $share may be sent over MQTT 3.1.1. */
  sharedOver311: boolean
  events: SubscribeConnectionEvents<Target>
}

/** Fewer messages than a broker sends before it waits for acknowledgements; Mosquitto's limit is 20, where it is not set. */
const WINDOW_MIN = 10
const ROUND_TRIPS_MAX = 100
/** Each is compared with each: more would hold up everything else. */
const OVERLAPS_CHECKED_MAX = 500

/** One connection and the subscriptions on it, brought back after each loss. */
export class SubscribeConnection<Target> implements ConnectionHandlers {
  readonly subscriptions = new Set<Subscription<Target>>()
  readonly #options: SubscribeConnectionOptions<Target>
  readonly #connection: Connection
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined

  constructor(options: SubscribeConnectionOptions<Target>) {
    this.#options = options
    this.#connection = new Connection({ ...options.connection, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** Of the last connection there was. */
  get capabilities(): Capabilities | undefined {
    return this.#capabilities
  }

  /**
   * Resolves once it is connected.
   * @throws CausewayError where the first attempt failed
   */
  async ready(): Promise<void> {
    await this.#connection.attempted()
    if (this.#network === undefined) throw this.#noConnection()
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /** Whether a copy from this connection would tell for which of its subscriptions it is. */
  takes(filter: string): boolean {
    if (this.#capabilities?.subscriptionIdentifiers) return true
    for (const { topics } of this.subscriptions) if (filtersOverlap(topics, filter)) return false
    return true
  }

  /**
   * Whether messages may be missing although the broker kept the session. Mosquitto 2.0 that was restarted remembers the
   * session, but not that it speaks MQTT 5, and keeps one copy of a message for all filters that match it.
   */
  mayMissCopies(subscription: Subscription<Target>): boolean {
    if (!this.#capabilities?.subscriptionIdentifiers) return false
    if (this.subscriptions.size > OVERLAPS_CHECKED_MAX) return true
    for (const other of this.subscriptions) {
      if (other !== subscription && filtersOverlap(other.topics, subscription.topics)) return true
    }
    return false
  }

  /** Whether a copy that came with these identifiers is this subscription's. */
  isCopyFor(subscription: Subscription<Target>, identifiers: readonly number[]): boolean {
    return (
      this.subscriptions.has(subscription) &&
      (identifiers.length === 0 || identifiers.includes(subscription.identifier))
    )
  }

  /**
   * Brings the broker to what is wanted of one subscription.
   * @throws CausewayError where it refuses or is away; later calls and reconnects try again
   */
  async sync(subscription: Subscription<Target>): Promise<void> {
    const { timeoutMs, events } = this.#options
    try {
      await subscription.sync(() => {
        if (this.#network === undefined) throw this.#noConnection()
        checkSubscribe(subscription.filter, this.#capabilities!)
        return { network: this.#network, identifiers: this.#capabilities!.subscriptionIdentifiers, timeoutMs }
      })
    } finally {
      if (subscription.isOver && this.subscriptions.delete(subscription)) events.over(subscription)
    }
  }

  /**
   * Resolves once all the broker has for us now has arrived. What waits there for earlier acknowledgements is overtaken by
   * PINGRESP, so only a round trip that has not filled the broker's window says that nothing does: under a load that always
   * fills it, there is no telling. What the broker keeps while the connection is lost comes when it is back.
   * @throws CausewayError where the broker is away or does not answer
   */
  async settled(): Promise<void> {
    await this.ready()
    const network = this.#network
    let left = SETTLING_ROUND_TRIPS
    for (let trips = 0; trips < ROUND_TRIPS_MAX && left > 0; trips += 1) {
      if (network === undefined || network !== this.#network) throw this.#noConnection()
      const before = network.arrived
      await withTimeout(network.roundTrip(), this.#options.timeoutMs)
      if (left < SETTLING_ROUND_TRIPS || network.arrived - before < WINDOW_MIN) left -= 1
    }
  }

  /** Whether the broker answers. */
  async answers(): Promise<boolean> {
    if (this.#network === undefined) return false
    return withTimeout(this.#network.roundTrip(), this.#options.timeoutMs).then(
      () => true,
      () => false,
    )
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    const wasConnected = this.#capabilities !== undefined
    const { sharedOver311, events } = this.#options
    this.#network = network
    this.#capabilities = withSharedOver311(capabilities, sharedOver311)
    this.#unavailable = undefined
    if (wasConnected) events.restored(sessionPresent)
    const synced = [...this.subscriptions].map((subscription) => {
      if (!sessionPresent) subscription.forgotten()
      return this.sync(subscription).catch((error: CausewayError) => {
        // A connection that is lost may say so a moment later than what waited for its answer.
        if (this.#network === network && error.kind.code !== 'broker-unavailable') events.refused(error, subscription)
      })
    })
    if (!wasConnected) return
    // What the broker kept comes behind it at once.
    if (sessionPresent) events.resubscribed()
    else void Promise.all(synced).then(() => this.#network === network && events.resubscribed())
  }

  lost(): void {
    this.#network = undefined
    this.#options.events.lost()
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
  }

  message(message: Message, identifiers: readonly number[]): void {
    this.#options.events.message(message, identifiers)
  }

  #noConnection(): CausewayError {
    return (
      this.#unavailable ??
      new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
    )
  }
}
