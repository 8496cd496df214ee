import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { CausewayError } from '../../errors.ts'
import { type Capabilities, checkSubscribe } from '../capabilities.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from '../client/network-connection.ts'
import type { Acknowledgement } from '../client/packets.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import { MarkerLine, type Markers } from '../markers.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { Message } from '../message.ts'
import type { MarkerPoint } from '../retained/snapshot.ts'
import type { Receipt } from '../session/unacknowledged.ts'
import { filtersOverlap } from '../topic.ts'
import { withTimeout } from '../with-timeout.ts'
import { CopiesTrial, type Copies } from './copies-trial.ts'
import { tryRedelivery } from './redelivery-trial.ts'
import { tryOrder } from './order-trial.ts'
import { tryTopics } from './topics-trial.ts'
import type { Identifiers } from './identifiers.ts'
import { ReceivedPackets } from './received-packets.ts'
import { proveSession } from './session-proof.ts'
import type { Subscription } from './subscription.ts'

/** Why messages may be missing behind a reconnect. */
export type Interruption =
  /** The broker lost the session, and with it what it kept. */
  | 'broker-session-lost'
  /** The broker keeps no message at QoS 0. */
  | 'broker-connection-lost'
  /** The broker kept about as many messages as it keeps at most, so it may have dropped more. */
  | 'broker-queue'

export interface SubscribeConnectionEvents<Target> {
  message(message: Message, identifiers: readonly number[]): void
  lost(): void
  /** Connected again. `sessionPresent`: the broker kept the subscriptions and the messages that came for them. */
  restored(sessionPresent: boolean): void
  /** Called after `restored`, once every subscription is at the broker again, or refused. */
  resubscribed(): void
  /** Behind `restored`: the broker counts its packets in a way in which it may lose messages with a connection. */
  countsAnew(): void
  /** The broker may have dropped some of the messages that it kept while the connection was lost. */
  queueOverflowed(): void
  refused(error: CausewayError, subscription: Subscription<Target>): void
  /** The subscription has no target, and the broker does not have it any more. */
  removed(subscription: Subscription<Target>): void
}

export interface SubscribeConnectionOptions<Target> {
  connection: Omit<ConnectionOptions, 'handlers' | 'sharedOver311'>
  timeoutMs: number
  /** Whether to assume over MQTT 3.1.1 that the broker has shared subscriptions. */
  sharedOver311: boolean
  /** How many messages the broker keeps for a client that is away; 0 for no limit. */
  brokerQueueMax: number
  /** Another client may use the same client id, as it is configured. */
  mayShareClientId: boolean
  markers: Markers
  /** Topics whose messages are not for readers; a filter such as # brings them. */
  ignores: (topic: string) => boolean
  /** Names the connection among the sources of markers. */
  source: string
  identifiers: Identifiers
  events: SubscribeConnectionEvents<Target>
}

/** Fewer messages than any broker sends before it waits for acknowledgements; Mosquitto's default is 20. */
const WINDOW_MIN = 10
const ROUND_TRIPS_MAX = 100
/** With so many of the messages that the broker keeps at most, it may have kept a few more. */
const NEARLY_FULL = 0.95
/** Pause between two round trips that may show how the broker counts packet identifiers. */
const LEARN_IDS_MS = 5000
/** Pauses between two tries of what the broker did not answer, or refused. */
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 10_000

/** One connection and the subscriptions on it, which are restored after each loss. */
export class SubscribeConnection<Target> implements ConnectionHandlers {
  readonly #options: SubscribeConnectionOptions<Target>
  readonly #connection: Connection
  readonly #line: MarkerLine
  readonly #received = new ReceivedPackets()
  readonly #byIdentifier = new Map<number, Subscription<Target>>()
  readonly #closed = new AbortController()
  #wasConnected = false
  /** Called with whether the broker kept the session, where CONNACK leaves that in doubt; undefined once decided. */
  #inDoubt: ((isSame: boolean) => void) | undefined
  /** It was in doubt on a connection that was lost before it was decided. */
  #isUndecided = false
  /** Settles once it is decided, or the connection is lost. */
  #decision: { promise: Promise<void>; settle: () => void } | undefined
  /** Messages since the connection was made; since an earlier one where that was lost before all of its queue came. */
  #arrived = 0
  /** All that the broker had kept has come, and it is known whether that filled its queue. */
  #isQueueMeasured = true
  /** Called once more messages than this have arrived. */
  #arrivedMore: { than: number; notify: () => void } | undefined
  /** When it was last tried to find out how the broker counts packet identifiers. */
  #triedIdsMs = -Infinity
  #copiesTrial: Promise<Copies | undefined> | undefined
  #topicsTrial: Promise<string | undefined> | undefined

  constructor(options: SubscribeConnectionOptions<Target>) {
    const { connection, sharedOver311, markers, source, timeoutMs } = options
    this.#options = options
    this.#line = new MarkerLine(markers, source, timeoutMs, () => this.settled())
    this.#connection = new Connection({ ...connection, sharedOver311, provesSession: true, handlers: this })
    // Any number of subscriptions may wait for their next try.
    setMaxListeners(0, this.#closed.signal)
    void markers.cameBack.then(() => this.#markSession())
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  get subscriptions(): Iterable<Subscription<Target>> {
    return this.#byIdentifier.values()
  }

  /** Whether messages say which subscription they were sent for, as far as the broker says. */
  get supportsIdentifiers(): boolean {
    return this.#connection.capabilities?.subscriptionIdentifiers === true
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

  add(subscription: Subscription<Target>): void {
    this.#byIdentifier.set(subscription.identifier, subscription)
  }

  has({ identifier }: Subscription<Target>): boolean {
    return this.#byIdentifier.has(identifier)
  }

  byIdentifier(identifier: number): Subscription<Target> | undefined {
    return this.#byIdentifier.get(identifier)
  }

  /** Finds out how the copies of a message come for filters that overlap; undefined where markers do not work. */
  tryCopies(): Promise<Copies | undefined> {
    this.#copiesTrial ??= this.#tryCopies().finally(() => (this.#copiesTrial = undefined))
    return this.#copiesTrial
  }

  /** Finds out which characters of topics the broker changes; undefined where that does not show. */
  tryTopics(): Promise<string | undefined> {
    this.#topicsTrial ??= this.#tryTopics().finally(() => (this.#topicsTrial = undefined))
    return this.#topicsTrial
  }

  /**
   * Finds out whether messages come in the order of their publishing.
   * @param kept called where they did, and it was tried on this connection
   */
  async learnOrder(kept: () => void): Promise<void> {
    await this.#learn('order', async (network) => {
      const order = await this.#tryOrder(network, false)
      if (order === 'kept') kept()
      return order
    })
  }

  /** As `learnOrder`, for longer; undefined where it does not show. */
  async tryOrderThoroughly(): Promise<Learnt['order']> {
    const network = await this.#networkOfMarkers()
    return network && this.#tryOrder(network, true)
  }

  /** Finds out how the broker sends messages again that were not acknowledged. */
  async learnRedelivery(): Promise<void> {
    const { connection, markers, timeoutMs } = this.#options
    const { onState: _ofThisOne, ...rest } = connection
    const topic = `${markers.topic}/redelivery`
    const publish = (payload: Buffer): Promise<boolean> => this.#line.publish({ topic, payload })
    await this.#learn('redelivery', () => tryRedelivery({ connection: rest, topic, publish, timeoutMs }))
  }

  /**
   * Subscribes or unsubscribes at the broker, as the subscription's targets require.
   * @throws CausewayError if the broker refuses it or cannot be reached; later calls and reconnects try again
   */
  async sync(subscription: Subscription<Target>): Promise<void> {
    const { timeoutMs, events, identifiers, markers } = this.#options
    // Messages for a new subscription would look like those that a kept session holds.
    await this.#decision?.promise
    // Should CONNACK leave it in doubt one day whether the broker kept the session, a marker shows it.
    const markersHere = markers.work === true ? this.#line.subscribe() : undefined
    try {
      await subscription.sync(() => {
        const network = this.#connection.requireNetwork()
        const capabilities = this.#connection.capabilities!
        return {
          network,
          check: () => checkSubscribe(subscription.filter, capabilities),
          supportsIdentifiers: capabilities.subscriptionIdentifiers,
          timeoutMs,
        }
      })
      await markersHere
    } finally {
      if (subscription.isRemoved && this.#byIdentifier.delete(subscription.identifier)) {
        identifiers.give(subscription.identifier)
        events.removed(subscription)
      }
    }
  }

  /** Unsubscribes at the broker. Tries until it has answered; if the connection is lost, the reconnect tries again. */
  async unsubscribe(subscription: Subscription<Target>): Promise<void> {
    await this.#retry(
      () => this.sync(subscription),
      () => subscription.targets.size === 0 && this.state === 'connected',
    ).catch(() => {})
  }

  /** Makes markers arrive here, where they work at all. */
  async prepareMarkers(): Promise<void> {
    if (this.#options.markers.work !== false) await this.#line.subscribe()
  }

  /**
   * Resolves once all messages have arrived that the broker had taken for these subscriptions when it took the marker.
   * Without a marker, or where it does not show, it waits for all that the broker has now instead, as well as that can
   * be told: see `settled`.
   * @returns false where messages may still be on their way
   * @throws CausewayError if the broker cannot be reached or does not answer
   */
  async passed(marker: MarkerPoint | undefined): Promise<boolean> {
    if (marker === undefined || !this.#line.isSubscribed) return this.settled()
    const { timeoutMs } = this.#options
    const network = await this.#connection.ready()
    const arrived = this.#line.arrived(marker.source, marker.number)
    // A marker that the broker dropped, as its queue was full, never comes.
    const late = delay(timeoutMs, false, { ref: false })
    return Promise.race([arrived, late]).then((isHere) => isHere || this.#connection.network !== network)
  }

  /**
   * Resolves once all messages that the broker has for us now have arrived, those that it kept while the connection was
   * lost included. A message that waits at the broker for earlier acknowledgements arrives after a later PINGRESP. Only
   * a round trip with fewer messages than fill the broker's window shows that none waits.
   * @returns false after 100 round trips that a load has always filled
   * @throws CausewayError if the broker cannot be reached or does not answer
   */
  async settled(): Promise<boolean> {
    const network = await this.#connection.ready()
    let tripsLeft = SETTLING_ROUND_TRIPS
    for (let trips = 0; trips < ROUND_TRIPS_MAX; trips += 1) {
      this.#requireSame(network)
      const before = network.inboundPackets
      await withTimeout(network.roundTrip(), this.#options.timeoutMs)
      // The first quiet round trip begins the count; after that every round trip counts.
      if (tripsLeft < SETTLING_ROUND_TRIPS || network.inboundPackets - before < WINDOW_MIN) tripsLeft -= 1
      if (tripsLeft === 0) return true
    }
    return false
  }

  /** @throws CausewayError where this network connection is lost */
  #requireSame(network: NetworkConnection): void {
    if (this.#connection.requireNetwork() === network) return
    throw new CausewayError('broker-unavailable', 'The connection to the broker was lost', { retryAfter: 1 })
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
    this.#closed.abort()
    this.#line.close()
    return this.#connection.close()
  }

  connected(
    network: NetworkConnection,
    { protocol }: Capabilities,
    sessionPresent: boolean,
    hasSession: boolean,
  ): void {
    const isReconnect = this.#wasConnected
    const mayShare = this.#mayShareClientId
    // A session at the first connect is another client's, as ours was discarded just now. One that never had our marker
    // may be.
    const isUnmarked = !isReconnect || (this.#options.markers.work === true && !this.#line.isSubscribed)
    if (hasSession && isUnmarked && mayShare) return this.#connection.replaceSession(!isReconnect)
    this.#wasConnected = true
    if (this.#isQueueMeasured) this.#arrived = 0
    this.#triedIdsMs = -Infinity
    // Over MQTT 3.1.1 a marker that came by a wildcard looks like one that came by its own subscription.
    const showsSession =
      this.#options.markers.work === true && this.#line.isSubscribed && !(protocol === 4 && this.#matchesMarkers)
    const isCertain = sessionPresent && !(this.#isUndecided && showsSession) && (showsSession || !mayShare)
    const mayBePresent = isCertain || (hasSession && showsSession)
    if (!mayBePresent) this.#connection.sessionProved()
    if (!hasSession) queueMicrotask(() => this.#markSession())
    this.#isUndecided = mayBePresent && !isCertain
    this.#line.connected(network, mayBePresent)
    const mayComeAgain = mayBePresent ? this.#received.reconnected() : this.#received.reset()
    if (mayComeAgain) void this.#settleReceived(network)
    if (isCertain || !mayBePresent) return this.#restore(network, isCertain, isReconnect)
    const decide = (isSame: boolean): void => {
      if (this.#inDoubt !== decide) return
      this.#settleDoubt()
      this.#isUndecided = false
      if (!isSame && mayShare) return this.#connection.replaceSession(false)
      if (!isSame) this.#line.connected(network, false)
      this.#restore(network, isSame, isReconnect)
    }
    this.#inDoubt = decide
    let settle = (): void => {}
    const promise = new Promise<void>((resolve) => (settle = resolve))
    this.#decision = { promise, settle }
    void this.#untilMessageOrAnswer(network).then(() => decide(false))
  }

  async #settleReceived(network: NetworkConnection): Promise<void> {
    // Under a load that fills the broker's window all the time it ends after as many round trips as that may take.
    await this.settled().catch(() => false)
    // Artemis answers pings before it begins to send what the session holds. A marker comes behind that.
    if (this.#options.markers.work === true && this.#line.isSubscribed) {
      await this.passed({ source: this.#line.source, number: this.#line.send() }).catch(() => false)
    }
    if (this.#connection.network === network) this.#received.settled()
  }

  /** Lets the next reconnect show whose session it is, also where nobody subscribes to anything until then. */
  #markSession(): void {
    if (this.#mayShareClientId && this.#options.markers.work === true) void this.#line.subscribe()
  }

  #settleDoubt(): void {
    this.#inDoubt = undefined
    this.#decision?.settle()
    this.#decision = undefined
  }

  lost(): void {
    this.#settleDoubt()
    for (const subscription of this.subscriptions) subscription.connectionLost()
    this.#line.lost()
    this.#options.events.lost()
  }

  acknowledged(packet: Acknowledgement): void {
    this.#line.acknowledged(packet)
  }

  message(message: Message, identifiers: readonly number[], receipt?: Receipt): void {
    // A session that has just begun has no subscriptions, so no message comes for it. A gap stands before the message.
    this.#inDoubt?.(true)
    this.#arrived += 1
    if (this.#arrivedMore !== undefined && this.#arrived > this.#arrivedMore.than) this.#arrivedMore.notify()
    if (receipt !== undefined) {
      if (this.#received.countsAnew(receipt)) this.#options.events.countsAnew()
      // The packet is one that the readers have.
      if (this.#received.isKnown(message, receipt)) return
      if (this.#received.mayComeAgain(message) || receipt.dup) message.redelivered = true
      if (this.#received.isUnknown) this.#learnIds()
    }
    // A marker that came by a wildcard of another client shows nothing.
    if (message.topic === this.#options.markers.topic && !this.#areKnown(identifiers)) return
    if (this.#line.message(message, identifiers) || this.#options.ignores(message.topic)) return
    this.#options.events.message(message, identifiers)
  }

  #restore(network: NetworkConnection, sessionPresent: boolean, isReconnect: boolean): void {
    const { events } = this.#options
    // A new session has kept nothing, and a gap says so.
    if (!sessionPresent) this.#isQueueMeasured = true
    if (isReconnect) events.restored(sessionPresent)
    const synced = [...this.subscriptions].map((subscription) => {
      if (!sessionPresent) subscription.markGone()
      return this.#syncUntilAnswered(subscription, network)
    })
    if (!isReconnect) return
    if (!sessionPresent) {
      return void Promise.all(synced).then(() => this.#connection.network === network && events.resubscribed())
    }
    // The messages that a kept session holds follow CONNACK at once.
    events.resubscribed()
    void this.#checkSession(network)
  }

  async #syncUntilAnswered(subscription: Subscription<Target>, network: NetworkConnection): Promise<void> {
    const isHere = (): boolean => this.#connection.network === network
    // A broker that is late, with SUBACK or UNSUBACK, has refused nothing.
    const isLate = (error: CausewayError): boolean => isHere() && error.kind.code === 'acknowledgement-timeout'
    await this.#retry(() => this.sync(subscription), isLate).catch((error: CausewayError) => {
      // Requests fail when the connection is lost, possibly before `lost` is called. That is no refusal.
      if (!isHere() || error.kind.code === 'broker-unavailable') return
      if (subscription.targets.size === 0) void this.unsubscribe(subscription)
      else this.#options.events.refused(error, subscription)
    })
  }

  /**
   * The session is the one of the connection before: asks again for what the broker may not have saved. Before that is
   * known it could be a session of another client, which would get these subscriptions.
   */
  #sessionProved(network: NetworkConnection): void {
    this.#connection.sessionProved()
    for (const subscription of this.subscriptions) {
      if (!subscription.mayBeUnsaved || !this.#isSupported(subscription)) continue
      subscription.askAgain()
      void this.#syncUntilAnswered(subscription, network)
    }
  }

  #isSupported({ filter }: Subscription<Target>): boolean {
    try {
      checkSubscribe(filter, this.#connection.capabilities!)
      return true
    } catch {
      return false
    }
  }

  get #mayShareClientId(): boolean {
    return this.#options.mayShareClientId && !this.#connection.hasChangedClientId
  }

  /** Whether a subscription of this connection matches the topics of markers. */
  get #matchesMarkers(): boolean {
    const { topic } = this.#options.markers
    return [...this.subscriptions].some(({ topics }) => filtersOverlap(topics, topic))
  }

  #areKnown(identifiers: readonly number[]): boolean {
    return identifiers.every((identifier) => this.#byIdentifier.has(identifier))
  }

  /** Only the session of the connection before has the subscription to our markers: a new one answers without any. */
  async #untilMessageOrAnswer(network: NetworkConnection): Promise<void> {
    const number = this.#line.send()
    const arrived = this.#line.arrived(this.#line.source, number)
    // All that the broker sends before it answers a ping was on its way before.
    const answered = withTimeout(network.roundTrip(), this.#options.timeoutMs)
      .then(() => network.roundTrip())
      .catch(() => {})
    await Promise.race([arrived, answered])
  }

  /**
   * Looks whose session the broker has continued, and whether it kept so many messages while the connection was lost
   * that it may have dropped others.
   */
  async #checkSession(network: NetworkConnection): Promise<void> {
    const { brokerQueueMax, events, markers, timeoutMs } = this.#options
    const isHere = (): boolean => this.#connection.network === network
    this.#isQueueMeasured = brokerQueueMax === 0 || this.#byIdentifier.size === 0
    const overflowed = (): void => {
      if (this.#isQueueMeasured || !isHere()) return
      this.#isQueueMeasured = true
      events.queueOverflowed()
    }
    if (markers.work !== true || !this.#line.isSubscribed) {
      this.#sessionProved(network)
      if (this.#isQueueMeasured) return
      // Under a load that fills the broker's window all the time nothing shows how much of it was kept.
      await this.settled().catch(() => false)
      if (this.#arrived >= NEARLY_FULL * brokerQueueMax) overflowed()
      if (isHere()) this.#isQueueMeasured = true
      return
    }
    if (brokerQueueMax > 0) this.#arrivedMore = { than: 2 * brokerQueueMax, notify: overflowed }
    const isOwn = (identifiers: readonly number[]): boolean =>
      identifiers.length > 0 ? this.#areKnown(identifiers) : this.#matchesMarkers
    const proof = await proveSession({
      network,
      markers,
      line: this.#line,
      timeoutMs,
      isHere,
      isOwn,
      silent: overflowed,
    })
    if (!isHere()) return
    this.#arrivedMore = undefined
    const isForeign = proof === undefined ? this.#mayShareClientId : !proof.isOurs
    if (isForeign) return this.#connection.replaceSession(proof !== undefined)
    this.#sessionProved(network)
    if (proof?.isWhole !== true || this.#arrived >= NEARLY_FULL * brokerQueueMax) overflowed()
    this.#isQueueMeasured = true
  }

  async #tryCopies(): Promise<Copies | undefined> {
    const { markers, identifiers, timeoutMs } = this.#options
    const network = await this.#networkOfMarkers()
    return network && new CopiesTrial(markers, this.#line, identifiers, timeoutMs).run(network)
  }

  async #tryTopics(): Promise<string | undefined> {
    const { markers, timeoutMs } = this.#options
    const network = await this.#networkOfMarkers()
    return network && tryTopics(network, markers, this.#line, timeoutMs)
  }

  async #learn<Name extends keyof Learnt>(
    name: Name,
    run: (network: NetworkConnection) => Promise<Learnt[Name]>,
  ): Promise<void> {
    const network = await this.#networkOfMarkers()
    if (network === undefined) return
    await this.#options.connection.broker.learn(name, async () => {
      const found = await run(network)
      // A trial during which the connection was lost says nothing, so the next one need not wait.
      if (found === undefined) this.#requireSame(network)
      return found
    })
  }

  #tryOrder(network: NetworkConnection, isThorough: boolean): Promise<Learnt['order']> {
    const { markers, timeoutMs } = this.#options
    const receiveMaximum = this.#connection.capabilities?.receiveMaximum ?? Infinity
    return tryOrder(network, markers, this.#line, receiveMaximum, timeoutMs, isThorough)
  }

  /** The connection once markers arrive on it; undefined where they do not work. */
  async #networkOfMarkers(): Promise<NetworkConnection | undefined> {
    const { markers, timeoutMs } = this.#options
    await Promise.race([markers.learning, delay(timeoutMs, undefined, { ref: false })])
    const network = await this.#connection.ready()
    return markers.work && (await this.#line.subscribe()) ? network : undefined
  }

  /** Finds out how the broker counts packet identifiers: see `ReceivedPackets`. */
  #learnIds(): void {
    const { network } = this.#connection
    const nowMs = performance.now()
    if (network === undefined || nowMs - this.#triedIdsMs < LEARN_IDS_MS) return
    this.#triedIdsMs = nowMs
    const before = this.#arrived
    void network
      .roundTrip()
      .then(() => this.#arrived === before && this.#connection.network === network && this.#received.acknowledged())
      .catch(() => {})
  }

  /** Tries something again, with growing pauses, as long as `again` says so. */
  async #retry(task: () => Promise<void>, again: (error: CausewayError) => boolean): Promise<void> {
    const { signal } = this.#closed
    for (let pauseMs = RETRY_MIN_MS; ; pauseMs = Math.min(2 * pauseMs, RETRY_MAX_MS)) {
      try {
        return await task()
      } catch (error) {
        if (!again(error as CausewayError)) throw error
        await delay(pauseMs, undefined, { signal, ref: false })
      }
    }
  }
}
