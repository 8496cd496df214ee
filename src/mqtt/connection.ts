import { CausewayError } from '../errors.ts'
import type { Capabilities } from './capabilities.ts'
import { connectFailed } from './connection/connect-failed.ts'
import type { Message } from './message.ts'
import type { Endpoint, Will } from './client/endpoint.ts'
import {
  type DurableOptions,
  NetworkConnection,
  type NetworkConnectionHandlers,
  SessionState,
} from './client/network-connection.ts'
import type { Acknowledgement } from './client/packets.ts'
import type { Receipt } from './session/unacknowledged.ts'

export interface ConnectionHandlers {
  /** Called before any packet of this network connection. `sessionPresent`: the broker has the session of the last one, for sure. */
  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void
  /** A working connection is gone; the first attempt to get it back has begun. */
  lost?(): void
  /** An attempt failed, or the first one takes longer than its time of grace; others follow, further and further apart. */
  unreachable?(error: CausewayError): void
  acknowledged?(packet: Acknowledgement): void
  message?(message: Message, subscriptionIdentifiers: readonly number[], receipt?: Receipt): void
  flushed?(): void
  drained?(): void
  /** Another client has the session of this durable connection now, which is closed. */
  takenOver?(): void
}

export interface ConnectionOptions {
  endpoint: Endpoint
  /** `auto` is MQTT 5, and 3.1.1 where the broker refuses 5. */
  protocol: 'auto' | '5' | '3.1.1'
  clientId: string
  will?: Will
  /** Whether the broker is to keep the session over reconnects; true unless given. */
  keepSession?: boolean
  /** The session is neither begun anew at the start nor ended with `close`, and is shared with whoever has the same client id. */
  durable?: DurableOptions & {
    /** Whether the broker answers on another connection. */
    isBrokerThere(): Promise<boolean>
  }
  handlers: ConnectionHandlers
  /** Called with each state it takes. */
  onState?: (state: ConnectionState, cause?: CausewayError) => void
}

/** `reconnecting` is the first attempt after a loss, or after the start, while it may still be quick. */
export type ConnectionState = 'connected' | 'reconnecting' | 'disconnected' | 'closed'

const GRACE_MS = 500
/** At the start nobody waits yet, and two connections are made one behind the other. */
const START_GRACE_MS = 2000
const DISCARD_TIMEOUT_MS = 500
const BACKOFF_FIRST_MS = 100
const BACKOFF_MAX_MS = 10_000
const CONTEST_MS = 5000
const SESSION_TAKEN_OVER = 0x8e
const UNACCEPTABLE_PROTOCOL: unknown[] = [0x01, 0x84]
/** No connection to a broker was made over which it could have got CONNECT. */
const NOT_REACHED: unknown[] = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']

/** One MQTT client that stays connected and keeps its session over reconnects, until it is closed. */
export class Connection {
  readonly #options: ConnectionOptions
  readonly #session = new SessionState()
  #state: ConnectionState = 'reconnecting'
  #network: NetworkConnection | undefined
  #protocol: 5 | 4
  #protocolRefused = false
  #spokeMqtt5 = false
  /** A CONNECT since the last CONNACK may have reached the broker. */
  #unanswered = false
  #sessionStarted = false
  #closedSilentlyAt = -Infinity
  #failures = 0
  readonly #attempted: (() => void)[] = []
  #attemptTimer: NodeJS.Timeout | undefined
  #graceTimer: NodeJS.Timeout | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#protocol = options.protocol === '3.1.1' ? 4 : 5
    this.#startGrace(START_GRACE_MS)
    this.#open()
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Resolves once it is not `reconnecting`: at once in most cases, after its time of grace in all. */
  async attempted(): Promise<void> {
    while (this.#state === 'reconnecting') await new Promise<void>((resolve) => this.#attempted.push(resolve))
  }

  /** Ends the session with the connection, unless it is durable. Resolves within two seconds, whatever the broker does. */
  async close(endsSession = this.#options.durable === undefined): Promise<void> {
    const wasConnected = this.#state === 'connected'
    this.#leave()
    if (!wasConnected) return this.#network?.destroy()
    const reachesBroker = await this.#network?.disconnect(endsSession)
    // 3.1.1 has no session expiry: only another connection, with a clean session, ends the one that was kept.
    if (this.#protocol === 5 || !reachesBroker || !endsSession || this.#options.keepSession === false) return
    const timer = setTimeout(() => this.#network?.destroy(), DISCARD_TIMEOUT_MS)
    await new Promise<void>((resolve) => this.#discardSession(() => resolve()))
    clearTimeout(timer)
  }

  #open(): void {
    const { durable, keepSession = true } = this.#options
    if (keepSession && !this.#sessionStarted && durable === undefined) {
      // What an earlier process of the same client id left. Clean Start would discard it on the way, over MQTT 5, but a
      // session that began so does not survive a restart of Mosquitto 2.0.
      return this.#discardSession((failure) => {
        if (this.#state === 'closed') return
        if (failure !== undefined) return this.#ended(failure.cause)
        this.#sessionStarted = true
        this.#open()
      })
    }
    const { handlers } = this.#options
    let opened = false
    const network = (this.#network = this.#connect(!keepSession, {
      opened: (capabilities, sessionPresent) => {
        opened = true
        this.#opened(network, capabilities, sessionPresent)
      },
      closed: (cause) => {
        if (this.#state === 'closed') return
        if (opened) this.#lost(network, cause)
        else this.#ended(cause)
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
        protocol: this.#protocol,
        clientId,
        clean,
        will: clean ? undefined : will,
        session: this.#session,
        durable,
      },
      handlers,
    )
  }

  /** Connects with a clean session and leaves. `done` gets the failure, if it was one. */
  #discardSession(done: (failure?: { cause: unknown }) => void): void {
    let opened = false
    const ignore = () => {}
    const network = (this.#network = this.#connect(true, {
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
    clearTimeout(this.#graceTimer)
    if (this.#protocol === 5) this.#spokeMqtt5 = true
    // It may have begun a session for that CONNECT, which now passes for the one before.
    const isSameSession = sessionPresent && !this.#unanswered
    this.#unanswered = false
    this.#setState('connected')
    this.#options.handlers.connected(network, capabilities, isSameSession)
  }

  #lost({ productive, dismissal }: NetworkConnection, cause: unknown): void {
    const { durable, handlers } = this.#options
    if (durable !== undefined && dismissal === SESSION_TAKEN_OVER) return this.#takenOver()
    this.#failures = productive ? Number(dismissal !== undefined) : this.#failures + 1
    const isContested = durable !== undefined && this.#closedSilently(cause ?? dismissal)
    this.#preferNewestProtocol()
    this.#setState('reconnecting')
    this.#startGrace(GRACE_MS)
    handlers.lost?.()
    if (isContested) {
      void durable
        .isBrokerThere()
        .then((isThere) => (this.#state === 'closed' ? undefined : isThere ? this.#takenOver() : this.#schedule()))
    } else this.#schedule()
  }

  /**
   * Whether the broker closed the connection twice in a row with no word. Over 3.1.1, and from Mosquitto 2.0 over MQTT 5
   * too, that is all one sees of a take-over. The client that was there first sees it twice first, so it gives way.
   */
  #closedSilently(word: unknown): boolean {
    const before = this.#closedSilentlyAt
    this.#closedSilentlyAt = word === undefined ? performance.now() : -Infinity
    return this.#closedSilentlyAt - before < CONTEST_MS
  }

  #takenOver(): void {
    this.#leave()
    this.#options.handlers.takenOver?.()
  }

  #leave(): void {
    this.#setState('closed')
    clearTimeout(this.#attemptTimer)
    clearTimeout(this.#graceTimer)
  }

  /** An attempt ended before CONNACK accepted it. */
  #ended(cause: unknown): void {
    const code = (cause as { code?: unknown } | undefined)?.code
    if (typeof code !== 'number' && !NOT_REACHED.includes(code)) this.#unanswered = true
    if (this.#options.protocol === 'auto' && this.#protocol === 5) {
      this.#protocolRefused = UNACCEPTABLE_PROTOCOL.includes(code)
      // RabbitMQ 3.10 closes the connection over MQTT 5 without a word; with a broker that spoke it, only the link broke.
      if (this.#protocolRefused || (cause === undefined && !this.#spokeMqtt5)) {
        this.#protocol = 4
        return this.#open()
      }
    }
    this.#preferNewestProtocol()
    this.#failures += 1
    this.#unreachable(connectFailed(cause))
    this.#schedule()
  }

  /** A broker that only fell silent over MQTT 5 may just have been going down: it is asked again each time. */
  #preferNewestProtocol(): void {
    if (this.#options.protocol === 'auto' && !this.#protocolRefused) this.#protocol = 5
  }

  #startGrace(graceMs: number): void {
    clearTimeout(this.#graceTimer)
    this.#graceTimer = setTimeout(() => this.#unreachable(connectFailed(undefined)), graceMs)
  }

  #unreachable(error: CausewayError): void {
    clearTimeout(this.#graceTimer)
    // What the broker says is news, whatever kept it from speaking before.
    if (this.#state !== 'disconnected' || error.details.mqtt !== undefined) this.#setState('disconnected', error)
    // Again with each attempt: a later one may have failed over something else.
    this.#options.handlers.unreachable?.(error)
  }

  #schedule(): void {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** (this.#failures - 1))
    const wait = this.#failures === 0 ? 0 : ceiling * (0.5 + Math.random() / 2)
    this.#attemptTimer = setTimeout(() => this.#open(), wait)
  }

  #setState(state: ConnectionState, cause?: CausewayError): void {
    this.#state = state
    if (state !== 'reconnecting') for (const resolve of this.#attempted.splice(0)) resolve()
    this.#options.onState?.(state, cause)
  }
}
