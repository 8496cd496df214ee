import { CausewayError } from '../../errors.ts'
import { withTimeout } from '../with-timeout.ts'
import { type Capabilities, checkSubscribe, withSharedOver311 } from '../capabilities.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions } from '../connection.ts'
import { DuplicateFilter } from './duplicate-filter.ts'
import type { Message } from '../message.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { isShared } from '../topic.ts'
import { type Receipt, Unacknowledged } from './unacknowledged.ts'

export interface SessionEvents {
  /** To be `done` with. */
  message(message: Message): void
  lost(): void
  /** Behind `lost`: the broker did not keep the session. */
  forgotten(): void
  /** Behind that: it delivers again. */
  restored(): void
  /** The broker refuses a filter that it granted before. */
  refused(error: CausewayError): void
  /** Another client has the session; nothing follows. */
  takenOver(): void
}

export interface SessionOptions {
  connection: Omit<ConnectionOptions, 'handlers' | 'durable'>
  durable: NonNullable<ConnectionOptions['durable']>
  filters: readonly string[]
  /** Whether retained messages become part of a session that begins. */
  retained: boolean
  timeoutMs: number
  /** Whether $share may be sent over MQTT 3.1.1. */
  sharedOver311: boolean
  events: SessionEvents
}

export interface OpenedSession {
  /** The broker had it. */
  present: boolean
  /** How long the broker keeps it, in seconds, as far as it said so. */
  expiryS: number | undefined
}

/**
 * A durable session at the broker (MQTT 5 section 4.1): it stays there while it is closed here, with its subscriptions
 * and all that is not acknowledged, and can be opened by whoever has its client id. QoS 1 messages stay unacknowledged
 * until they are `done`.
 */
export class Session implements ConnectionHandlers {
  readonly #options: SessionOptions
  readonly #unacknowledged = new Unacknowledged((messageId) => this.#network?.acknowledge(messageId))
  readonly #copies = new DuplicateFilter()
  #connection: Connection | undefined
  #closing: Promise<void> | undefined
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined
  #present = false
  #subscribes = true
  /** Every filter was granted in the session the broker has. */
  #isGranted = false
  #granted: Promise<void> = Promise.resolve()
  #isOpen = false

  constructor(options: SessionOptions) {
    this.#options = options
  }

  /** Of its connection; undefined while it is closed. */
  get state(): Connection['state'] | undefined {
    return this.#connection?.state
  }

  /**
   * Connects, and resolves once the broker has granted every filter. Messages may come before.
   * @throws CausewayError where it refuses one or is away
   */
  async open(): Promise<OpenedSession> {
    this.#subscribes = true
    try {
      await this.#connect()
      await this.#granted
    } catch (error) {
      // A session that began with this and holds nothing would be litter.
      await this.close(!this.#present && !this.#isGranted)
      throw error
    }
    this.#isOpen = true
    return {
      present: this.#present,
      expiryS:
        this.#capabilities!.protocol === 5
          ? (this.#capabilities!.sessionExpiryS ?? this.#options.durable.expiryS)
          : undefined,
    }
  }

  /** Done with it: it will not come again, where PUBACK reaches the broker. */
  done(message: Message): void {
    this.#unacknowledged.done(message)
  }

  /** No reader gets it now: it is handed on when it comes again, over the next connection. */
  abandon(message: Message): void {
    this.#unacknowledged.abandon(message)
  }

  /** Connects anew, so that what was abandoned comes; to the events it is a connection that was never lost. */
  async renew(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined) return
    this.#forgetConnection()
    this.#isOpen = true
    this.#closing = connection.close(false)
    await this.#closing
    if (this.#isOpen && this.#connection === undefined) this.#start()
  }

  /** Disconnects, and the broker keeps the session unless it is to end. Resolves within two seconds. */
  async close(endsSession = false): Promise<void> {
    const connection = this.#connection
    this.#forgetConnection()
    if (connection === undefined) return this.#closing
    if (endsSession) this.#forgetSession()
    this.#closing = connection.close(endsSession)
    await this.#closing
  }

  /**
   * Makes the broker forget it. Resolves with whether the broker had it.
   * @throws CausewayError where the broker is away
   */
  async end(): Promise<boolean> {
    const wasOpen = this.#isOpen
    if (!wasOpen) this.#subscribes = false
    await this.#connect()
    const existed = wasOpen || this.#present
    await this.close(true)
    return existed
  }

  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    const { sharedOver311, events } = this.#options
    this.#network = network
    this.#capabilities = withSharedOver311(capabilities, sharedOver311)
    this.#unavailable = undefined
    this.#present = sessionPresent
    if (!sessionPresent) this.#forgetSession()
    const isBack = this.#isOpen
    if (isBack && !sessionPresent) events.forgotten()
    // What the broker kept comes behind CONNACK at once.
    if (isBack && this.#isGranted) events.restored()
    const isDue = isBack && !this.#isGranted
    const isCurrent = () => isDue && this.#isOpen && this.#network === network
    this.#granted = this.#subscribe(network)
    this.#granted.then(
      () => isCurrent() && events.restored(),
      (error: CausewayError) => isCurrent() && error.kind.code !== 'broker-unavailable' && events.refused(error),
    )
  }

  lost(): void {
    this.#network = undefined
    this.#copies.reset()
    this.#unacknowledged.connectionLost()
    if (this.#isOpen) this.#options.events.lost()
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
  }

  takenOver(): void {
    const wasOpen = this.#isOpen
    this.#forgetConnection()
    if (wasOpen) this.#options.events.takenOver()
  }

  message(message: Message, identifiers: readonly number[], receipt?: Receipt): void {
    // It left already, and gets what comes now again.
    if (this.#network === undefined) return
    if (receipt !== undefined && !this.#unacknowledged.receive(message, receipt)) return
    if (receipt?.dup) message.redelivered = true
    // Over 3.1.1 retained messages come with every SUBSCRIBE, asked for or not.
    if (this.#copies.isDuplicate(message, identifiers) || (message.retain && !this.#options.retained)) {
      this.done(message)
    } else this.#options.events.message(message)
  }

  async #connect(): Promise<void> {
    await this.#closing
    this.#connection ??= this.#start()
    await this.#connection.attempted()
    if (this.#network === undefined) {
      throw (
        this.#unavailable ??
        new CausewayError('broker-unavailable', 'The connection to the broker was lost', { retryAfter: 1 })
      )
    }
  }

  #start(): Connection {
    const { connection, durable } = this.#options
    return (this.#connection = new Connection({ ...connection, durable, handlers: this }))
  }

  async #subscribe(network: NetworkConnection): Promise<void> {
    if (!this.#subscribes) return
    const { timeoutMs, retained } = this.#options
    // Mosquitto 2.0 keeps the session over a restart, and not its shared subscriptions.
    const filters = this.#isGranted ? this.#options.filters.filter(isShared) : this.#options.filters
    const { subscriptionIdentifiers } = this.#capabilities!
    for (const filter of filters) checkSubscribe(filter, this.#capabilities!)
    const grants = await Promise.all(
      filters.map((filter, index) => {
        const identifier = subscriptionIdentifiers && filters.length > 1 ? index + 1 : undefined
        return withTimeout(
          network.subscribe(filter, 1, { identifier, retained: retained ? 'if-new' : 'never' }),
          timeoutMs,
        )
      }),
    )
    if (grants.includes(0)) {
      throw new CausewayError('qos-not-supported', 'The broker grants QoS 0 only, with which no session is durable')
    }
    this.#isGranted = true
  }

  #forgetConnection(): void {
    this.#connection = undefined
    this.#network = undefined
    this.#isOpen = false
    this.#copies.reset()
    this.#unacknowledged.connectionLost()
  }

  #forgetSession(): void {
    this.#isGranted = false
    this.#unacknowledged.sessionLost()
  }
}
