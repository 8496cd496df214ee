import { CausewayError } from '../errors.ts'
import { type Capabilities, withSharedOver311 } from './capabilities.ts'
import type { Endpoint, Will } from './client/endpoint.ts'
import {
  type DurableOptions,
  NetworkConnection,
  type NetworkConnectionHandlers,
  SessionState,
} from './client/network-connection.ts'
import type { Acknowledgement } from './client/packets.ts'
import { Backoff } from './connection/backoff.ts'
import { connectFailed } from './connection/connect-failed.ts'
import { ProtocolChoice } from './connection/protocol-choice.ts'
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
   * An attempt to connect failed, or the first one takes longer than its grace time. More attempts follow, with
   * back-off.
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
  endpoint: Endpoint
  /** `auto` is MQTT 5, and 3.1.1 where the broker refuses 5. */
  protocol: 'auto' | '5' | '3.1.1'
  clientId: string
  will?: Will
  /** Whether the broker keeps the session over reconnects; true by default. */
  keepSession?: boolean
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
  /** Called with each new state. */
  onState?: (state: ConnectionState, cause?: CausewayError) => void
}

/** `reconnecting` is the first attempt, at the start or after a loss, as long as its grace time has not passed. */
export type ConnectionState = 'connected' | 'reconnecting' | 'disconnected' | 'closed'

/** Grace time of the first attempt after a loss. Until it has passed, callers wait instead of getting an error. */
const GRACE_MS = 500
/** The same at the start. It is longer because nobody waits yet and two connections are made one after the other. */
const START_GRACE_MS = 2000
const DISCARD_TIMEOUT_MS = 500
/** Two silent closes within this time are taken for another client that uses the same session. */
const CONTEST_MS = 5000
const SESSION_TAKEN_OVER = 0x8e
/** System errors after which the broker cannot have received CONNECT. */
const NOT_REACHED: unknown[] = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']

/** One MQTT client. It stays connected and keeps its MQTT session over reconnects, until it is closed. */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #session = new SessionState()
  readonly #protocol: ProtocolChoice
  readonly #backoff = new Backoff()
  #state: ConnectionState = 'reconnecting'
  /** The latest one, whether it is established or not. */
  #latest: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined
  /** A CONNECT since the last CONNACK may have reached the broker. */
  #mayHaveUnseenSession = false
  #isSessionStarted = false
  #closedSilentlyAt = -Infinity
  readonly #attemptWaiters: (() => void)[] = []
  #attemptTimer: NodeJS.Timeout | undefined
  #graceTimer: NodeJS.Timeout | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#protocol = new ProtocolChoice(options.protocol)
    this.#startGrace(START_GRACE_MS)
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

  /** Resolves once the state is not `reconnecting`: at the latest when the grace time of the first attempt is over. */
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

  /** Begins the next attempt to connect with a new session. */
  discardSession(): void {
    this.#isSessionStarted = false
  }

  /** Also ends the session, unless it is durable. Resolves within two seconds, whatever the broker does. */
  async close(endsSession = this.#options.durable === undefined): Promise<void> {
    const { network } = this
    this.#stop()
    if (network === undefined) return this.#latest?.destroy()
    const wasReceived = await network.disconnect(endsSession)
    // MQTT 3.1.1 has no session expiry: only a second connection, with a clean session, ends a session that was kept.
    // Some MQTT 5 brokers (FlashMQ, rumqttd) ignore an expiry of 0 in DISCONNECT, so a durable session is ended twice.
    const isDurable = this.#options.durable !== undefined
    const isEnded = (this.#protocol.version === 5 && !isDurable) || this.#options.keepSession === false
    if (isEnded || !endsSession || !wasReceived) return
    const timer = setTimeout(() => this.#latest?.destroy(), DISCARD_TIMEOUT_MS)
    await new Promise<void>((resolve) => this.#discardSession(() => resolve()))
    clearTimeout(timer)
  }

  #open(): void {
    const { durable, keepSession = true } = this.#options
    if (keepSession && !this.#isSessionStarted && durable === undefined) {
      // An earlier process may have left a session under the same client id. Over MQTT 5, Clean Start on the connection
      // itself would discard it, but Mosquitto 2.0 does not save a session that began with Clean Start over a restart.
      return this.#discardSession((failure) => {
        if (this.#state === 'closed') return
        if (failure !== undefined) return this.#attemptFailed(failure.cause)
        this.#isSessionStarted = true
        this.#open()
      })
    }
    const { handlers } = this.#options
    let opened = false
    const network = (this.#latest = this.#connect(!keepSession, {
      opened: (capabilities, sessionPresent) => {
        opened = true
        this.#opened(network, capabilities, sessionPresent)
      },
      closed: (cause) => {
        if (this.#state === 'closed') return
        if (opened) this.#lost(network, cause)
        else this.#attemptFailed(cause)
      },
      acknowledged: (packet) => handlers.acknowledged?.(packet),
      message: (message, identifiers, receipt) => handlers.message?.(message, identifiers, receipt),
      flushed: () => handlers.flushed?.(),
      drained: () => handlers.drained?.(),
    }))
  }

  #connect(clean: boolean, handlers: NetworkConnectionHandlers): NetworkConnection {
    const { endpoint, clientId, will, durable } = this.#options
    return new NetworkConnection(
      {
        endpoint,
        protocol: this.#protocol.version,
        clientId,
        clean,
        will: clean ? undefined : will,
        session: this.#session,
        durable,
      },
      handlers,
    )
  }

  /** Connects with a clean session and disconnects at once. `done` gets the failure, if there was one. */
  #discardSession(done: (failure?: { cause: unknown }) => void): void {
    let opened = false
    const ignore = () => {}
    const network = (this.#latest = this.#connect(true, {
      opened: () => {
        opened = true
        void network.disconnect(true)
      },
      closed: (cause) => (opened ? done() : done({ cause })),
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
    this.#protocol.accepted()
    // A CONNECT whose CONNACK was lost may have started a new session; the broker would call that one present.
    const isSameSession = sessionPresent && !this.#mayHaveUnseenSession
    this.#mayHaveUnseenSession = false
    this.#capabilities = withSharedOver311(capabilities, sharedOver311)
    this.#unavailable = undefined
    this.#setState('connected')
    handlers.connected?.(network, this.#capabilities, isSameSession, sessionPresent)
  }

  #lost({ hasReceived, disconnectReason }: NetworkConnection, cause: unknown): void {
    const { durable, handlers } = this.#options
    // Two clients with one client id evict each other for ever if both reconnect, so the one that is told gives way.
    if (durable !== undefined && disconnectReason === SESSION_TAKEN_OVER) return this.#giveWay()
    if (hasReceived) this.#backoff.reset()
    if (!hasReceived || disconnectReason !== undefined) this.#backoff.failed()
    const isContested = durable !== undefined && this.#isClosedSilentlyAgain(cause ?? disconnectReason)
    this.#protocol.retryMqtt5()
    this.#setState('reconnecting')
    this.#startGrace(GRACE_MS)
    handlers.lost?.()
    if (!isContested) return this.#scheduleAttempt()
    void durable.isBrokerThere().then((isThere) => {
      if (this.#state === 'closed') return
      if (isThere) this.#giveWay()
      else this.#scheduleAttempt()
    })
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
    this.#setState('closed')
    clearTimeout(this.#attemptTimer)
    clearTimeout(this.#graceTimer)
  }

  /** An attempt ended before CONNACK accepted it. */
  #attemptFailed(cause: unknown): void {
    const code = (cause as { code?: unknown } | undefined)?.code
    if (typeof code !== 'number' && !NOT_REACHED.includes(code)) this.#mayHaveUnseenSession = true
    if (this.#protocol.fallsBack(cause, code)) return this.#open()
    this.#protocol.retryMqtt5()
    this.#backoff.failed()
    this.#unreachable(connectFailed(cause))
    this.#scheduleAttempt()
  }

  #startGrace(graceMs: number): void {
    clearTimeout(this.#graceTimer)
    this.#graceTimer = setTimeout(() => this.#unreachable(connectFailed(undefined)), graceMs)
  }

  #unreachable(error: CausewayError): void {
    clearTimeout(this.#graceTimer)
    this.#unavailable = error
    // A reason given by the broker itself is reported even if the connection was already known to be down.
    if (this.#state !== 'disconnected' || error.details.mqtt !== undefined) this.#setState('disconnected', error)
    // Called for each attempt, since each may fail for a different reason.
    this.#options.handlers.unreachable?.(error)
  }

  #scheduleAttempt(): void {
    this.#attemptTimer = setTimeout(() => this.#open(), this.#backoff.delayMs())
  }

  #setState(state: ConnectionState, cause?: CausewayError): void {
    this.#state = state
    if (state !== 'reconnecting') for (const resolve of this.#attemptWaiters.splice(0)) resolve()
    this.#options.onState?.(state, cause)
  }
}
