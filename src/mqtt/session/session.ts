import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { CausewayError } from '../../errors.ts'
import { type Capabilities, checkSubscribe } from '../capabilities.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from '../client/network-connection.ts'
import type { Acknowledgement } from '../client/packets.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions } from '../connection.ts'
import type { Message } from '../message.ts'
import { FIRST_REFUSAL } from '../reason-codes.ts'
import { IDENTIFIER_MAX } from '../subscribe/identifiers.ts'
import { filterContains, isShared, plainFilter } from '../topic.ts'
import { withTimeout } from '../with-timeout.ts'
import { DuplicateFilter } from './duplicate-filter.ts'
import { QueueMeter } from './queue-meter.ts'
import { type Receipt, Unacknowledged } from './unacknowledged.ts'

/** How long a session is tried to be taken over from another client while the broker answers elsewhere. */
const TAKE_OVER_MS = 5000
const RETRY_MS = 100
/** Those of SUBSCRIBE are below (see `PacketIds`), so the two never meet. Markers count down. */
const MARKER_PACKET_ID_MAX = 65_535
const MARKER_PACKET_ID_MIN = 60_000
/**
 * Seconds after which the broker forgets a marker (MQTT 5). One that came too late would look like one for which there
 * was no room, so it is longer than a reader may take.
 */
const MARKER_EXPIRY_S = 86_400
/**
 * A marker is acknowledged behind the messages in front of it, so with a reader that acknowledges nothing they pile up
 * here and at the broker. So many may be here.
 */
const MARKERS_MAX = 32
/** Fewer messages than any broker sends before it waits for acknowledgements: where so few wait, it holds none back. */
const WINDOW_MIN = 10
/** Pauses between two round trips that may show that. */
const TRIP_MIN_MS = 20
const TRIP_MAX_MS = 1000

export interface SessionEvents {
  /** The receiver calls `done` or `abandon` with it. */
  message(message: Message): void
  /**
   * A message came by a subscription that the session has from before and that is not among its filters. It is
   * acknowledged already. Without this handler, such messages are handed over as all others.
   */
  stray?(message: Message): void
  /** The connection was lost; reconnecting has begun. */
  lost(): void
  /**
   * The broker did not keep the session; called after `lost`. Or it kept the session, and is known to lose messages
   * that were not acknowledged on the connection before; called at `open` too, before any message, or once it is known.
   */
  forgotten(): void
  /** Called after `lost`, and after `forgotten` if that was called: the broker delivers again. */
  restored(): void
  /** The broker may have dropped messages, as its queue for the session was full or nearly so. */
  queueOverflowed(): void
  /** The broker refuses a filter that it granted before. */
  refused(error: CausewayError): void
  /** Another client has taken over the session. No event follows. */
  takenOver(): void
}

export interface SessionOptions {
  connection: Omit<ConnectionOptions, 'handlers' | 'durable' | 'sharedOver311'>
  durable: NonNullable<ConnectionOptions['durable']>
  filters: readonly string[]
  /** Whether a new session begins with the retained messages. */
  retained: boolean
  timeoutMs: number
  /** Whether to assume over MQTT 3.1.1 that the broker has shared subscriptions. */
  sharedOver311: boolean
  /** How many messages the broker keeps for a client; 0 for no limit. */
  brokerQueueMax: number
  /** The topic of the session's own marker; undefined where markers do not work, as far as is known. */
  markerTopic?: () => string | undefined
  /** Settles once `Learnt.redelivery` is known or does not show; undefined where nobody finds it out now. */
  learningRedelivery?: () => Promise<void> | undefined
  /** Topics whose messages are not for readers: those of the bridge's markers, which a filter such as # brings. */
  ignores?: (topic: string) => boolean
  events: SessionEvents
}

export interface OpenedSession {
  /** The broker already had the session. */
  present: boolean
  /** Seconds for which the broker keeps it after a disconnect; undefined over MQTT 3.1.1, where it does not say. */
  expiryS: number | undefined
}

/**
 * A durable session at the broker (MQTT 5 section 4.1). While it is closed here, the broker keeps it, with its
 * subscriptions and all unacknowledged messages; any client with the same client id can open it. A QoS 1 message stays
 * unacknowledged until `done` is called with it.
 */
export class Session implements ConnectionHandlers {
  readonly #options: SessionOptions
  readonly #unacknowledged = new Unacknowledged((messageId) => {
    this.#markerIds.delete(messageId)
    this.#meter?.acknowledged()
    this.#connection?.network?.acknowledge(messageId)
  })
  readonly #duplicates = new DuplicateFilter()
  /** Those of its filters. */
  readonly #identifiers: ReadonlySet<number>
  /** Undefined while the session is closed here. */
  #connection: Connection | undefined
  /** Settles when the connection before is closed. */
  #closing: Promise<void> | undefined
  /** The broker had the session at the last CONNACK. */
  #isPresent = false
  /** False if the session is only opened to end it. */
  #subscribes = true
  /** The broker granted every filter, in the session that it has now. */
  #isGranted = false
  /** Settles when the broker has answered the SUBSCRIBEs of the current connection. */
  #granted: Promise<void> = Promise.resolve()
  #isOpen = false
  /** The broker has the subscription to the marker, in the session that it has now. */
  #marker: string | undefined
  /** Called with whether the broker kept the session, where CONNACK leaves that in doubt; undefined once decided. */
  #inDoubt: ((isSame: boolean) => void) | undefined
  /** It was in doubt on a connection that was lost before it was decided. */
  #isUndecided = false
  #lastMarkerPacketId = MARKER_PACKET_ID_MAX
  /** Packet identifiers of markers that have come and are not acknowledged. */
  readonly #markerIds = new Set<number>()
  /** Undefined where the broker's queue has no limit. */
  readonly #meter: QueueMeter | undefined
  /** The broker does not take markers. */
  #areMarkersRefused = false

  /**
   * What comes may have come before, to another reader as well, though the broker does not mark it. What has the same
   * payload is the marker that ends this.
   */
  #mayComeAgain: { payload: Buffer; ended: () => void } | undefined

  constructor(options: SessionOptions) {
    const { brokerQueueMax, events } = options
    this.#options = options
    this.#identifiers = new Set(options.filters.map(identifierOf))
    if (brokerQueueMax > 0) {
      this.#meter = new QueueMeter({
        max: brokerQueueMax,
        send: (payload) => this.#measureWith(payload),
        overflowed: () => events.queueOverflowed(),
      })
    }
  }

  /** The state of the connection; undefined while the session is closed here. */
  get state(): Connection['state'] | undefined {
    return this.#connection?.state
  }

  /**
   * Connects, and resolves once the broker has granted every filter. Messages may arrive before that.
   * @throws CausewayError if the broker refuses a filter or cannot be reached
   */
  async open(): Promise<OpenedSession> {
    this.#subscribes = true
    let connection: Connection
    try {
      connection = await this.#connect()
      await this.#granted
    } catch (error) {
      // End a session that was started just now: it holds nothing yet, and nobody would ever end it.
      await this.close(!this.#isPresent && !this.#isGranted)
      throw error
    }
    this.#isOpen = true
    const { protocol, sessionExpiryS = this.#options.durable.expiryS } = connection.capabilities!
    if (protocol === 5 && sessionExpiryS === 0) {
      await this.close(true)
      throw new CausewayError(
        'sessions-not-supported',
        'The broker ends every session with its connection (Session Expiry Interval 0), so it keeps nothing for ' +
          'a reader',
      )
    }
    return { present: this.#isPresent, expiryS: protocol === 5 ? sessionExpiryS : undefined }
  }

  /** The reader has the message. Once the broker receives PUBACK, it does not send the message again. */
  done(message: Message): void {
    this.#unacknowledged.done(message)
  }

  /** The message reaches no reader for now. It is delivered when the broker sends it again, on the next connection. */
  abandon(message: Message): void {
    this.#unacknowledged.abandon(message)
  }

  /**
   * Takes nothing more from the broker until `resume`. To be called from `message`. Acknowledgements are sent all the
   * same.
   * @returns false where that cannot be, as the broker has not answered yet whether it grants every filter
   */
  hold(): boolean {
    const network = this.#connection?.network
    if (network === undefined || !this.#isOpen || !this.#isGranted) return false
    network.hold()
    return true
  }

  resume(): void {
    this.#connection?.network?.resume()
  }

  /**
   * Ends subscriptions that the session may have and that are not among its filters.
   * @throws CausewayError if the connection is lost
   */
  async unsubscribe(filters: readonly string[]): Promise<void> {
    const network = this.#connection!.requireNetwork()
    await Promise.all(filters.map((filter) => withTimeout(network.unsubscribe(filter), this.#options.timeoutMs)))
  }

  /** Reconnects, so that the broker sends abandoned messages again. No event is called for that. */
  async renew(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined) return
    this.#dropConnection()
    this.#isOpen = true
    this.#closing = connection.close(false)
    await this.#closing
    if (this.#isOpen && this.#connection === undefined) this.#start()
  }

  /** Disconnects. The broker keeps the session, unless `endsSession`. Resolves within two seconds. */
  async close(endsSession = false): Promise<void> {
    const connection = this.#connection
    this.#dropConnection()
    if (connection === undefined) return this.#closing
    if (endsSession) this.#sessionLost()
    this.#closing = connection.close(endsSession)
    await this.#closing
  }

  /**
   * Ends the session at the broker. Resolves with whether the broker had it.
   * @throws CausewayError if the broker cannot be reached, or if it may still have the session. In the latter case the
   *   session is closed here
   */
  async end(): Promise<boolean> {
    const wasOpen = this.#isOpen
    if (!wasOpen) this.#subscribes = false
    let connection: Connection
    try {
      connection = await this.#connect()
    } catch (error) {
      // Otherwise the MQTT client would go on connecting, and take the session's messages once the broker is back.
      if (!wasOpen) await this.close()
      throw error
    }
    const existed = wasOpen || this.#isPresent
    this.#dropConnection()
    this.#sessionLost()
    const ended = connection.closeForGood()
    this.#closing = ended.then(() => {})
    if (!(await ended)) {
      throw new CausewayError(
        'broker-unavailable',
        'The connection to the broker was lost before it had ended the session, which it may still have',
        { retryAfter: 1 },
      )
    }
    if (existed) await this.#checkEnded()
    return existed
  }

  /**
   * Some brokers keep a session that they were told to end, which shows only where a client connects to it once more.
   * That is done until the broker has once forgotten a session: then it does so with the others, too.
   * @throws CausewayError if the broker still has the session, or cannot be reached
   */
  async #checkEnded(): Promise<void> {
    const { connection: options, durable } = this.#options
    const { learnt } = options.broker
    if (learnt.sessionsEnd === true) return
    let isPresent = false
    const connection = new Connection({
      ...options,
      // Should the bridge be killed now, nothing of this stays (MQTT 5).
      durable: { ...durable, expiryS: 0 },
      handlers: { connected: (_network, _capabilities, _sessionPresent, hasSession) => (isPresent = hasSession) },
    })
    try {
      await connection.ready()
    } finally {
      // Over MQTT 3.1.1 the check itself has begun a session.
      this.#closing = connection.close(true)
      await this.#closing
    }
    learnt.sessionsEnd = !isPresent
    if (!isPresent) return
    throw new CausewayError('broker-refused', 'The broker was told to end the session, and still has it')
  }

  connected(
    network: NetworkConnection,
    capabilities: Capabilities,
    sessionPresent: boolean,
    hasSession: boolean,
  ): void {
    const isCertain = sessionPresent && !this.#isUndecided
    if (isCertain || !hasSession || this.#marker === undefined) {
      this.#isUndecided = false
      return this.#begin(network, capabilities, isCertain)
    }
    const decide = (isSame: boolean): void => {
      if (this.#inDoubt !== decide) return
      this.#inDoubt = undefined
      this.#isUndecided = false
      this.#begin(network, capabilities, isSame)
    }
    this.#inDoubt = decide
    this.#isUndecided = true
    void this.#untilMessageOrAnswer(network).then(() => decide(false))
  }

  /**
   * Only the session of the connection before has subscriptions, and messages to send again: a new one answers a ping
   * without any.
   */
  async #untilMessageOrAnswer(network: NetworkConnection): Promise<void> {
    this.#publishMarker(Buffer.alloc(0), network)
    await withTimeout(network.roundTrip(), this.#options.timeoutMs)
      .then(() => network.roundTrip())
      .catch(() => {})
  }

  #begin(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    const { events } = this.#options
    this.#isPresent = sessionPresent
    if (!sessionPresent) this.#sessionLost()
    const isReconnect = this.#isOpen
    const { redelivery } = this.#options.connection.broker.learnt
    if (sessionPresent ? redelivery === 'lost' : isReconnect) events.forgotten()
    // The messages that a kept session holds follow CONNACK at once.
    if (isReconnect && this.#isGranted) events.restored()
    // Otherwise it is restored, or refused, when the broker has answered the SUBSCRIBEs.
    const isRestoredLater = isReconnect && !this.#isGranted
    const isCurrent = () => isRestoredLater && this.#isOpen && this.#connection?.network === network
    this.#granted = this.#subscribe(network, capabilities)
    this.#mayComeAgain = undefined
    const learning = redelivery === undefined ? this.#options.learningRedelivery?.() : undefined
    if (sessionPresent && (redelivery === 'unmarked' || learning !== undefined)) {
      void this.#markUntilNew(network).catch(() => {})
    }
    if (sessionPresent) void learning?.then(() => this.#learntRedelivery(network))
    this.#granted.then(
      () => isCurrent() && events.restored(),
      (error: CausewayError) => isCurrent() && error.kind.code !== 'broker-unavailable' && events.refused(error),
    )
  }

  /** It was not known yet when this connection was made, so the worst was assumed. */
  #learntRedelivery(network: NetworkConnection): void {
    if (this.#connection?.network !== network) return
    const { redelivery } = this.#options.connection.broker.learnt
    if (redelivery === 'lost') this.#options.events.forgotten()
    if (redelivery === 'marked') this.#mayComeAgain = undefined
  }

  /**
   * Marks everything until the session's own marker has come, which the broker took behind all that it held, and
   * nothing can be held back for want of acknowledgements any more.
   */
  async #markUntilNew(network: NetworkConnection): Promise<void> {
    const payload = Buffer.from(randomUUID())
    let ended = (): void => {}
    const marked = new Promise<void>((resolve) => (ended = resolve))
    const mine = (this.#mayComeAgain = { payload, ended })
    await this.#granted
    const isCurrent = (): boolean => this.#mayComeAgain === mine && this.#connection?.network === network
    if (!isCurrent()) return
    if (this.#marker !== undefined) {
      this.#publishMarker(payload, network)
      await marked
    }
    let tripsLeft = SETTLING_ROUND_TRIPS
    for (let pauseMs = TRIP_MIN_MS; isCurrent() && tripsLeft > 0; pauseMs = Math.min(2 * pauseMs, TRIP_MAX_MS)) {
      await network.roundTrip()
      if (this.#unacknowledged.size < WINDOW_MIN) tripsLeft -= 1
      await delay(pauseMs, undefined, { ref: false })
    }
    if (isCurrent()) this.#mayComeAgain = undefined
  }

  lost(): void {
    this.#inDoubt = undefined
    this.#meter?.stop()
    this.#duplicates.reset()
    this.#unacknowledged.connectionLost()
    if (this.#isOpen) this.#options.events.lost()
  }

  acknowledged({ reasonCode = 0 }: Acknowledgement): void {
    // Only markers are published here.
    if (reasonCode < FIRST_REFUSAL) return
    this.#areMarkersRefused = true
    this.#meter?.reset()
  }

  takenOver(): void {
    const wasOpen = this.#isOpen
    this.#dropConnection()
    if (wasOpen) this.#options.events.takenOver()
  }

  message(message: Message, identifiers: readonly number[], receipt?: Receipt): void {
    // A connection that is being closed may still receive messages. The broker sends them again on the next one.
    if (this.#connection === undefined) return
    this.#inDoubt?.(true)
    // Retained messages follow SUBSCRIBE; over MQTT 5 the broker may send all of them at once.
    const isQueued = receipt !== undefined && (!message.retain || this.#connection.capabilities?.protocol === 4)
    // Those that come again count, too: while a client is away, Mosquitto counts what is unacknowledged with the rest.
    if (isQueued) this.#meter?.received(!receipt.dup && this.#mayComeAgain === undefined)
    if (receipt !== undefined && !this.#unacknowledged.receive(message, receipt)) return
    if (this.#mayComeAgain !== undefined) {
      message.redelivered = true
      if (message.payload.equals(this.#mayComeAgain.payload)) this.#mayComeAgain.ended()
    }
    if (message.topic === this.#marker) {
      if (this.#meter?.arrived(message.payload) && receipt !== undefined) this.#markerIds.add(receipt.messageId)
      return this.done(message)
    }
    const { ignores, events } = this.#options
    if (ignores?.(message.topic)) return this.done(message)
    // Over MQTT 3.1.1 the broker sends retained messages after every SUBSCRIBE, even if they are not wanted.
    if (this.#duplicates.isDuplicate(message, identifiers) || (message.retain && !this.#isWanted(message))) {
      this.done(message)
    } else if (events.stray === undefined || this.#isOwn(message, identifiers)) {
      events.message(message)
    } else {
      this.done(message)
      events.stray(message)
    }
  }

  /** Some brokers change topics, so that a message need not match the filter that it came by. */
  #isOwn(message: Message, identifiers: readonly number[]): boolean {
    return identifiers.some((identifier) => this.#identifiers.has(identifier)) || this.#matches(message)
  }

  #matches({ topic }: Message): boolean {
    return this.#options.filters.some((filter) => filterContains(plainFilter(filter), topic))
  }

  /** Retained messages of topics beside the filters are no reader's: amqtt sends all of them behind CONNACK. */
  #isWanted(message: Message): boolean {
    return this.#options.retained && this.#matches(message)
  }

  async #connect(): Promise<Connection> {
    await this.#closing
    const connection = (this.#connection ??= this.#start())
    const giveUpAt = performance.now() + TAKE_OVER_MS
    for (;;) {
      try {
        await connection.ready()
        return connection
      } catch (error) {
        const isRefused = (error as CausewayError).details.mqtt !== undefined
        if (isRefused || this.#connection !== connection || performance.now() > giveUpAt) throw error
        // Some brokers close the new connection too while they take the session from the old one.
        if (!(await this.#options.durable.isBrokerThere())) throw error
        await delay(RETRY_MS)
      }
    }
  }

  #start(): Connection {
    const { connection, durable, sharedOver311 } = this.#options
    return (this.#connection = new Connection({ ...connection, durable, sharedOver311, handlers: this }))
  }

  async #subscribe(network: NetworkConnection, capabilities: Capabilities): Promise<void> {
    if (!this.#subscribes) return
    const { timeoutMs, retained } = this.#options
    // Mosquitto 2.0 restores a session after a restart, but without its shared subscriptions.
    const filters = this.#isGranted ? this.#options.filters.filter(isShared) : this.#options.filters
    for (const filter of filters) checkSubscribe(filter, capabilities)
    const marked = this.#subscribeMarker(network)
    const grants = await Promise.all(
      filters.map((filter) => {
        const isNeeded = this.#options.filters.length > 1 || this.#options.events.stray !== undefined
        const identifier = capabilities.subscriptionIdentifiers && isNeeded ? identifierOf(filter) : undefined
        return withTimeout(
          network.subscribe(filter, 1, { identifier, retained: retained ? 'if-new' : 'never' }),
          timeoutMs,
        )
      }),
    )
    if (grants.includes(0)) {
      throw new CausewayError('qos-not-supported', 'The broker grants QoS 0 only, with which no session is durable')
    }
    await marked
    this.#isGranted = true
  }

  /** Subscribes to the marker where the session does not have it, and begins to measure the broker's queue. */
  async #subscribeMarker(network: NetworkConnection): Promise<void> {
    const marker = this.#areMarkersRefused ? undefined : this.#options.markerTopic?.()
    if (this.#marker !== undefined && marker !== undefined) return this.#startMeter()
    if (marker === undefined) return void this.#measureUntilQuiet(network)
    const granted = network.subscribe(marker, 1, { identifier: undefined, retained: 'never' })
    this.#marker = marker
    // Behind SUBSCRIBE, so that it comes back, and before the answer, as messages may come at once.
    this.#startMeter()
    await withTimeout(granted, this.#options.timeoutMs).catch(() => {
      if (this.#connection?.network !== network) return
      this.#marker = undefined
      this.#meter?.reset()
    })
  }

  #startMeter(): void {
    // While a client is connected, Mosquitto counts what is unacknowledged beyond its Receive Maximum, which is the
    // largest possible one over MQTT 5. Over 3.1.1 it takes 20.
    this.#meter?.start(true, this.#connection?.capabilities?.protocol === 4)
  }

  #measureWith(payload: Buffer): boolean {
    if (this.#markerIds.size >= MARKERS_MAX) return false
    this.#publishMarker(payload)
    return true
  }

  #publishMarker(payload: Buffer, network = this.#connection?.network): void {
    const topic = this.#marker
    if (topic === undefined || network === undefined) return
    if (this.#lastMarkerPacketId <= MARKER_PACKET_ID_MIN) this.#lastMarkerPacketId = MARKER_PACKET_ID_MAX + 1
    this.#lastMarkerPacketId -= 1
    const properties = { messageExpiryInterval: MARKER_EXPIRY_S }
    network.publish({ topic, payload, qos: 1, retain: false, properties }, this.#lastMarkerPacketId, false)
  }

  /**
   * Where markers do not work: nothing waits at the broker once a round trip brings few messages and all are
   * acknowledged.
   */
  async #measureUntilQuiet(network: NetworkConnection): Promise<void> {
    const meter = this.#meter
    if (meter === undefined) return
    meter.start(false, false)
    for (let pauseMs = TRIP_MIN_MS; ; pauseMs = Math.min(2 * pauseMs, TRIP_MAX_MS)) {
      const before = network.inboundPackets
      await network.roundTrip().catch(() => {})
      if (this.#connection?.network !== network || !meter.countsAll) return
      if (network.inboundPackets - before < WINDOW_MIN && this.#unacknowledged.size === 0) return meter.quiet()
      await delay(pauseMs, undefined, { ref: false })
    }
  }

  #dropConnection(): void {
    this.#connection = undefined
    this.#isOpen = false
    this.#inDoubt = undefined
    this.#mayComeAgain = undefined
    this.#isUndecided = false
    this.#meter?.stop()
    this.#duplicates.reset()
    this.#unacknowledged.connectionLost()
  }

  #sessionLost(): void {
    this.#isGranted = false
    this.#marker = undefined
    this.#markerIds.clear()
    this.#meter?.reset()
    this.#unacknowledged.sessionLost()
  }
}

/**
 * The subscription identifier of a filter, 1 to 268,435,455 (MQTT 5 section 3.8.2.1.2). The same in each process, so
 * what a session had queued before it was opened here can be told apart.
 */
function identifierOf(filter: string): number {
  return 1 + (createHash('sha256').update(filter).digest().readUInt32BE() % IDENTIFIER_MAX)
}
