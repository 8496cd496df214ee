import { CausewayError } from '../errors.ts'
import { type Capabilities, withSharedOver311 } from './capabilities.ts'
import type { Will } from './client/endpoint.ts'
import {
  closedUnanswered,
  codeOf,
  foreignSession,
  isForeignSession,
  isPacketTooLarge,
  isSuspicious,
} from './client/failures.ts'
import {
  type DurableOptions,
  NetworkConnection,
  type NetworkConnectionHandlers,
  SessionState,
} from './client/network-connection.ts'
import type { Acknowledgement } from './client/packets.ts'
import { Backoff } from './connection/backoff.ts'
import type {
  Broker,
  ConnectionReport,
  ConnectionRole,
  ConnectionState,
  Login,
  Member,
  StateChange,
  Target,
} from './connection/broker.ts'
import { cannotHaveReached, connectFailed, connectionLost } from './connection/connect-failed.ts'
import type { Message } from './message.ts'
import type { Receipt } from './session/unacknowledged.ts'

/** What happens on a connection. `Connection` itself knows the network connection and why there is none. */
export interface ConnectionHandlers {
  /**
   * Called before any packet of this network connection is handed over.
   * @param sessionPresent the broker certainly still has the session of the connection before
   * @param hasSession the broker says that it has a session. Where `sessionPresent` is false it may be a new one: a
   *   CONNECT in between may have reached the broker unanswered. Only what comes shows which it is
   */
  connected?(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean, hasSession: boolean): void
  /** An established connection was lost; the first attempt to reconnect has begun. */
  lost?(): void
  /**
   * The attempts at all addresses failed, or the first one takes longer than its grace time. More attempts follow,
   * with back-off.
   */
  unreachable?(error: CausewayError): void
  acknowledged?(packet: Acknowledgement): void
  message?(message: Message, subscriptionIdentifiers: readonly number[], receipt?: Receipt): void
  /** All packets written in the last turn of the event loop are with the socket. */
  flushed?(): void
  /** The socket takes packets again, after `writable` was false. */
  drained?(): void
  /** Only for durable sessions: another client has taken over the session, and this connection is closed. */
  takenOver?(): void
}

export interface ConnectionOptions {
  broker: Broker
  /** What the connection is for, as in the metrics. */
  role: ConnectionRole
  /** A caller's credentials, in place of the bridge's own. */
  login?: Login | undefined
  /** The broker may get it with a suffix, if another client uses it too. Not that of a durable session. */
  clientId: string
  will?: Will
  /** Whether the broker keeps the session over reconnects; true by default. */
  keepSession?: boolean
  /**
   * Whether `sessionProved` or `replaceSession` is called after each `connected` with a session. Until then what comes
   * may be for another client; false by default.
   */
  provesSession?: boolean
  /** Whether to assume over MQTT 3.1.1 that the broker has shared subscriptions; false by default. */
  sharedOver311?: boolean
  /**
   * Makes the session outlive this object: it is neither discarded at the start nor ended by `close`, and any client
   * with the same client id may take it over.
   */
  durable?: DurableOptions & {
    /** Whether the broker answers on another connection. */
    isBrokerThere(): Promise<boolean>
  }
  handlers: ConnectionHandlers
  /** Called with each new state, and with `disconnected` after each failed attempt. */
  onState?: (state: ConnectionState, change: StateChange) => void
}

export type { ConnectionState } from './connection/broker.ts'

/** Grace time of the first attempt after a loss. Until it has passed, callers wait instead of getting an error. */
const GRACE_MS = 500
/** An attempt ends by itself after the connect timeout. At the start, only one that does not is given up after this. */
const START_GRACE_MORE_MS = 500
const DISCARD_TIMEOUT_MS = 500
/** Two silent closes within this time are taken for another client that uses the same session. */
const CONTEST_MS = 5000
/**
 * Another client with the same client id closes our connection as soon as it connects. So many connections in a row
 * that each lived for less than this, and were closed without a reason, are taken for that.
 */
const SHORT_LIFE_MS = 3000
const SHORT_LIVES_MAX = 4
/**
 * A broker that has lost a part of its state may continue a session without our subscriptions, too. Twice within this
 * time it is another client.
 */
const FOREIGN_AGAIN_MS = 60_000
/** A connection that lived for longer was a good one, even if the broker had nothing to send. */
const STABLE_MS = 10_000
const SESSION_TAKEN_OVER = 0x8e
const USE_ANOTHER_SERVER: unknown[] = [0x9c, 0x9d]
/** How long a connection may send nothing when another one has stopped answering. */
const SIGN_OF_LIFE_MS = 3000
/** So that the connections of a bridge that are woken do not all connect in the same moment. */
const WAKE_SPREAD_MS = 100

/** One MQTT client. It stays connected and keeps its MQTT session over reconnects, until it is closed. */
export class Connection implements Member {
  readonly #options: ConnectionOptions
  readonly #broker: Broker
  readonly #session = new SessionState()
  readonly #backoff = new Backoff()
  #state: ConnectionState = 'reconnecting'
  /** The latest one, whether it is established or not. */
  #latest: NetworkConnection | undefined
  /** Where the latest attempt goes or went. */
  #target: Target
  #clientId: string
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined
  /** A CONNECT since the last CONNACK may have reached the broker, or the session has to be discarded. */
  #mayHaveUnseenSession = false
  #isSessionStarted = false
  #wasConnected = false
  #connectedAt = 0
  #closedSilentlyAt = -Infinity
  #shortLives = 0
  /** The session that the broker continued may be another client's. */
  #isUnproved = false
  /** The session that is being replaced certainly is another client's. */
  #isForeign = false
  #foreignAt = -Infinity
  /** A session was replaced, and none that is ours has begun since. */
  #wasReplaced = false
  /** How many addresses were tried since the last wait. */
  #tried = 0
  readonly #attemptWaiters: (() => void)[] = []
  #attemptTimer: NodeJS.Timeout | undefined
  /** The next attempt waits because the broker was not reached, so it may come earlier. */
  #mayWake = false
  #graceTimer: NodeJS.Timeout | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#broker = options.broker
    this.#clientId = options.clientId
    this.#target = this.#broker.target(options.login)
    this.#broker.join(this)
    this.#startGrace(this.#startGraceMs)
    this.#open()
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** The established network connection, if there is one. */
  get network(): NetworkConnection | undefined {
    return this.#state === 'connected' ? this.#latest : undefined
  }

  /** What the broker supports, as it said when it was last connected; undefined before the first time. */
  get capabilities(): Capabilities | undefined {
    return this.#capabilities
  }

  /** Why the last attempt to connect failed; undefined while connected and during the grace time of a first attempt. */
  get unavailable(): CausewayError | undefined {
    return this.#unavailable
  }

  /** How it is, for people. */
  get report(): ConnectionReport {
    const { address, version } = this.#target
    const { role, login } = this.#options
    return {
      role,
      isCallers: login !== undefined,
      clientId: this.#clientId,
      state: this.#state,
      address,
      protocol: version === 5 ? '5' : '3.1.1',
      reason: this.#unavailable?.message,
      capabilities: this.#capabilities,
    }
  }

  /**
   * Resolves once the state is not `reconnecting`. At the start that is when the first attempt has an outcome, within
   * the connect timeout for each address and protocol version; later, when its grace time is over.
   */
  async attempted(): Promise<void> {
    while (this.#state === 'reconnecting') await new Promise<void>((resolve) => this.#attemptWaiters.push(resolve))
  }

  /**
   * Waits for the first attempt and returns the established network connection.
   * @throws CausewayError that says why there is none
   */
  async ready(): Promise<NetworkConnection> {
    await this.attempted()
    return this.requireNetwork()
  }

  /**
   * As `ready`, without waiting.
   * @throws CausewayError that says why there is none
   */
  requireNetwork(): NetworkConnection {
    const { network } = this
    if (network !== undefined) return network
    throw (
      this.#unavailable ??
      new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
    )
  }

  /** Another client uses the configured client id, so this one has a suffix. */
  get hasChangedClientId(): boolean {
    return this.#clientId !== this.#options.clientId
  }

  /** The session is the one of the connection before, or what came of another one's is told of. */
  sessionProved(): void {
    this.#isUnproved = false
    this.#wasReplaced = false
  }

  /**
   * The session is another client's: ends it, and connects with a new one. Messages for that client have come here, and
   * it sees that it lost the session.
   * @param isCertain it is; otherwise it only may be. Where it is for the second time, the client id changes
   */
  replaceSession(isCertain: boolean): void {
    this.#isUnproved = true
    // The broker continues a session, although ours was ended just now.
    this.#isForeign = isCertain || this.#wasReplaced
    this.#wasReplaced = true
    this.#latest?.discard(foreignSession())
  }

  /** Begins the next attempt to connect with a new session. */
  discardSession(): void {
    this.#isSessionStarted = false
  }

  /** Also ends the session, unless it is durable. Resolves within two seconds, whatever the broker does. */
  async close(endsSession = this.#options.durable === undefined): Promise<void> {
    await this.#leave(endsSession)
  }

  /** As `close`, and ends the session. Resolves with whether the broker took what was sent to it for that. */
  closeForGood(): Promise<boolean> {
    return this.#leave(true)
  }

  wake(): void {
    if (!this.#mayWake) return
    this.#mayWake = false
    clearTimeout(this.#attemptTimer)
    this.#attemptTimer = setTimeout(() => this.#open(), Math.random() * WAKE_SPREAD_MS)
  }

  checkAlive(): void {
    void this.network?.requireSignOfLife(SIGN_OF_LIFE_MS)
  }

  async #leave(endsSession: boolean): Promise<boolean> {
    const { network } = this
    this.#stop()
    if (network === undefined) {
      this.#latest?.destroy()
      return false
    }
    const wasReceived = await network.disconnect(endsSession)
    // MQTT 3.1.1 has no session expiry: only a second connection, with a clean session, ends a session that was kept.
    // Some MQTT 5 brokers (FlashMQ, rumqttd) ignore an expiry of 0 in DISCONNECT, so a durable session is ended twice.
    const isDurable = this.#options.durable !== undefined
    const isEnded = (this.#target.version === 5 && !isDurable) || this.#options.keepSession === false
    if (isEnded || !endsSession || !wasReceived) return wasReceived
    const timer = setTimeout(() => this.#latest?.destroy(), DISCARD_TIMEOUT_MS)
    const wasDiscarded = await new Promise<boolean>((resolve) =>
      this.#discardSession((failure) => resolve(failure === undefined)),
    )
    clearTimeout(timer)
    return wasDiscarded
  }

  #open(): void {
    const { durable, keepSession = true, clientId, login, will } = this.#options
    this.#mayWake = false
    this.#target = this.#broker.target(login)
    if (durable === undefined && this.#clientId !== this.#broker.clientId(clientId)) {
      if (this.#isUnproved) {
        // Messages for the other client may have come here. It sees that if it loses the session.
        this.#isUnproved = false
        return this.#discardSession(() => this.#state !== 'closed' && this.#open())
      }
      // A client id with a new random suffix has no session yet.
      this.#clientId = this.#broker.clientId(clientId)
      this.#isSessionStarted = true
    }
    if (keepSession && !this.#isSessionStarted && durable === undefined) {
      // An earlier process may have left a session under the same client id. Over MQTT 5, Clean Start on the connection
      // itself would discard it, but Mosquitto 2.0 does not save a session that began with Clean Start over a restart.
      return this.#discardSession((failure, network) => {
        if (this.#state === 'closed') return
        if (failure !== undefined) return this.#attemptFailed(network, failure.cause)
        this.#isSessionStarted = true
        this.#open()
      })
    }
    const { handlers } = this.#options
    let opened = false
    const network = (this.#latest = this.#connect(!keepSession, will, {
      opened: (capabilities, sessionPresent) => {
        opened = true
        this.#opened(network, capabilities, sessionPresent)
      },
      closed: (cause) => {
        if (this.#state === 'closed') return
        if (opened) this.#lost(network, cause)
        else this.#attemptFailed(network, cause)
      },
      acknowledged: (packet) => handlers.acknowledged?.(packet),
      message: (message, identifiers, receipt) => handlers.message?.(message, identifiers, receipt),
      flushed: () => handlers.flushed?.(),
      drained: () => handlers.drained?.(),
    }))
  }

  #connect(clean: boolean, will: Will | undefined, handlers: NetworkConnectionHandlers): NetworkConnection {
    const { durable } = this.#options
    const { endpoint, version } = this.#target
    return new NetworkConnection(
      {
        endpoint,
        protocol: version,
        clientId: this.#clientId,
        clean,
        will,
        session: this.#session,
        durable,
      },
      handlers,
    )
  }

  /** Connects with a clean session and disconnects at once. `done` gets the failure, if there was one. */
  #discardSession(done: (failure: { cause: Error | undefined } | undefined, network: NetworkConnection) => void): void {
    let opened = false
    const ignore = () => {}
    const network = (this.#latest = this.#connect(true, undefined, {
      opened: () => {
        opened = true
        void network.disconnect(true)
      },
      closed: (cause) => done(opened ? undefined : { cause }, network),
      acknowledged: ignore,
      message: ignore,
      flushed: ignore,
      drained: ignore,
    }))
  }

  #opened(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    if (this.#state === 'closed') return network.destroy()
    const { sharedOver311 = false, handlers } = this.#options
    clearTimeout(this.#graceTimer)
    this.#broker.connected(this, this.#target)
    this.#tried = 0
    this.#wasConnected = true
    this.#connectedAt = performance.now()
    // A CONNECT whose CONNACK was lost may have started a new session; the broker would call that one present.
    const isSameSession = sessionPresent && !this.#mayHaveUnseenSession
    this.#mayHaveUnseenSession = false
    this.#capabilities = withSharedOver311(capabilities, sharedOver311)
    this.#unavailable = undefined
    this.#isUnproved = sessionPresent && this.#options.provesSession === true
    this.#setState('connected')
    handlers.connected?.(network, this.#capabilities, isSameSession, sessionPresent)
  }

  #lost(network: NetworkConnection, cause: Error | undefined): void {
    const { durable, handlers, clientId } = this.#options
    const { hasReceived, disconnectReason, serverReference } = network
    this.#broker.lost(this)
    // Two clients with one client id evict each other for ever if both reconnect, so the one that is told gives way.
    if (durable !== undefined && disconnectReason === SESSION_TAKEN_OVER) return this.#giveWay()
    // Without a session there is nothing to share, and every connection gets a client id of its own instead.
    const isContested = durable === undefined && this.#isContested(network, cause)
    if (isContested) this.#broker.contested(clientId, this.#clientId)
    if (isForeignSession(cause)) this.#isSessionStarted = false
    const isTooLarge = isPacketTooLarge(cause)
    const wasStable = !isTooLarge && (hasReceived || performance.now() - this.#connectedAt > STABLE_MS)
    if (wasStable || isContested) this.#backoff.reset()
    if (!isContested && (!wasStable || disconnectReason !== undefined)) this.#backoff.failed()
    if (isTooLarge) {
      // The broker would send the packet again, on each connection of this session.
      this.#isSessionStarted = false
      this.#mayHaveUnseenSession = true
      this.#broker.sentTooMuch(this.#clientId, cause!, durable !== undefined)
    }
    if (isSuspicious(cause)) this.#broker.suspect(this, this.#target.address)
    this.#target.protocol.retryMqtt5()
    this.#setState('reconnecting', connectionLost(cause, disconnectReason, serverReference))
    this.#startGrace(GRACE_MS)
    handlers.lost?.()
    if (this.state === 'closed') return
    if (this.#refers(disconnectReason, serverReference)) return this.#open()
    if (durable === undefined || !this.#isClosedSilentlyAgain(cause ?? disconnectReason)) {
      return this.#scheduleAttempt(this.#backoff.delayMs())
    }
    void durable.isBrokerThere().then((isThere) => {
      if (this.#state === 'closed') return
      if (isThere) this.#giveWay()
      else this.#scheduleAttempt(this.#backoff.delayMs())
    })
  }

  /** Whether another client uses the same client id. MQTT 5 brokers say so; others, and Mosquitto 2.0, only close. */
  #isContested(network: NetworkConnection, cause: Error | undefined): boolean {
    const { disconnectReason, hasPublished, unansweredRequests } = network
    if (disconnectReason === SESSION_TAKEN_OVER) return true
    if (isForeignSession(cause)) {
      if (!this.#isForeign) return false
      const isAgain = performance.now() - this.#foreignAt < FOREIGN_AGAIN_MS
      this.#foreignAt = performance.now()
      return isAgain
    }
    const isSilent = disconnectReason === undefined && (cause === undefined || codeOf(cause) === 'ECONNRESET')
    const wasShort = performance.now() - this.#connectedAt < SHORT_LIFE_MS
    // Mosquitto 2.0 and MQTT 3.1.1 brokers also close a connection over a publish or a filter that they refuse. They
    // take the publishes that prove the session.
    const mayBeRefused = (hasPublished && !this.#isUnproved) || unansweredRequests > 0
    this.#shortLives = isSilent && wasShort && !mayBeRefused ? this.#shortLives + 1 : 0
    if (this.#shortLives < SHORT_LIVES_MAX) return false
    this.#shortLives = 0
    return true
  }

  /**
   * Whether the broker closed the connection twice within `CONTEST_MS` without a reason. Brokers over MQTT 3.1.1, and
   * Mosquitto 2.0 over MQTT 5, do not say more when another client takes over the session. The client that had the
   * session first is the first one to see this twice, so it is the one that gives way.
   */
  #isClosedSilentlyAgain(reason: unknown): boolean {
    const before = this.#closedSilentlyAt
    this.#closedSilentlyAt = reason === undefined ? performance.now() : -Infinity
    return this.#closedSilentlyAt - before < CONTEST_MS
  }

  /** Leaves the session to the client that has taken it over. */
  #giveWay(): void {
    this.#stop()
    this.#options.handlers.takenOver?.()
  }

  #stop(): void {
    this.#broker.leave(this)
    this.#setState('closed')
    clearTimeout(this.#attemptTimer)
    clearTimeout(this.#graceTimer)
  }

  /** An attempt ended before CONNACK accepted it. */
  #attemptFailed(network: NetworkConnection, cause: Error | undefined): void {
    const code = codeOf(cause)
    const isRefused = typeof code === 'number'
    if (!isRefused && !cannotHaveReached(code)) this.#mayHaveUnseenSession = true
    this.#shortLives = 0
    if (isSuspicious(cause)) this.#broker.suspect(this, this.#target.address)
    if (this.#broker.fallsBack(this.#target, cause) || this.#refers(code, network.serverReference)) {
      this.#extendStartGrace()
      return this.#open()
    }
    this.#target.protocol.retryMqtt5()
    this.#tried += 1
    // A caller's credentials say nothing about the broker: its other connections find out whether that is there.
    const isElsewhere = this.#options.login === undefined && this.#broker.failed(this.#target)
    if (isElsewhere && this.#tried < this.#broker.serverCount) {
      this.#extendStartGrace()
      return this.#open()
    }
    this.#tried = 0
    this.#backoff.failed(isRefused)
    this.#unreachable(connectFailed(cause ?? closedUnanswered(), network.serverReference))
    this.#mayWake = !isRefused
    this.#scheduleAttempt(this.#backoff.delayMs())
  }

  /** Whether the broker named another server, to which the next attempt goes at once. */
  #refers(code: unknown, serverReference: string | undefined): boolean {
    if (serverReference === undefined || !USE_ANOTHER_SERVER.includes(code)) return false
    return this.#broker.refer(this.#target, serverReference)
  }

  get #startGraceMs(): number {
    return this.#target.endpoint.connectTimeoutMs + START_GRACE_MORE_MS
  }

  /** At the start, each address and each protocol version has the whole connect timeout. */
  #extendStartGrace(): void {
    if (!this.#wasConnected && this.#state === 'reconnecting') this.#startGrace(this.#startGraceMs)
  }

  #startGrace(graceMs: number): void {
    clearTimeout(this.#graceTimer)
    this.#graceTimer = setTimeout(() => this.#unreachable(connectFailed(undefined)), graceMs)
  }

  #unreachable(error: CausewayError): void {
    clearTimeout(this.#graceTimer)
    this.#unavailable = error
    this.#setState('disconnected', error)
    // Called for each attempt, since each may fail for a different reason.
    this.#options.handlers.unreachable?.(error)
  }

  #scheduleAttempt(delayMs: number): void {
    this.#attemptTimer = setTimeout(() => this.#open(), delayMs)
  }

  #setState(state: ConnectionState, cause?: CausewayError): void {
    this.#state = state
    if (state !== 'reconnecting') for (const resolve of this.#attemptWaiters.splice(0)) resolve()
    const { address, version } = this.#target
    this.#options.onState?.(state, { address, version, cause })
  }
}
