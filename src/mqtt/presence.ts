import type { CausewayError } from '../errors.ts'
import type { NetworkConnection } from './client/network-connection.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { Message } from './message.ts'
import { FIRST_REFUSAL, refusal } from './reason-codes.ts'
import { learnRetainedWills } from './will-trial.ts'

export interface PresenceOptions {
  /** `name` tells the two connections apart. */
  connection: (name: string) => Omit<ConnectionOptions, 'handlers' | 'will' | 'role'>
  /** The topic about the service. Other bridges may use the same one. */
  topic: string
  /** Name of this bridge: a level of the topic about it. */
  name: string
  /** Whether a bridge with the same name comes back after this one. */
  isNameLasting: boolean
  /** The topic below which the markers of all bridges are. */
  markerTopic: string
  /** How long to wait for each answer, when the broker is tried out. */
  timeoutMs: number
  /** Called once where the broker does not keep a will that is to be retained: behind a crash `online` stays. */
  onWillNotRetained(): void
  /** Called once for each topic for which the broker refuses a message or the subscription. */
  onRefused(error: CausewayError): void
}

/**
 * Keeps two retained messages that say whether there is a bridge, and whether it is this one: `online`, and `offline`
 * from `close` or, if a connection is lost, from the Last Will. Each has a connection of its own, because a connection
 * has one will, and because some brokers close a connection after refusing a publish on it, and would then publish the
 * will.
 */
export class Presence {
  readonly #options: PresenceOptions
  readonly #statuses: readonly [Status, Status]
  readonly #closing = new AbortController()
  #tried: Promise<void> | undefined

  constructor(options: PresenceOptions) {
    const { connection, topic, name, isNameLasting, onRefused } = (this.#options = options)
    this.#statuses = [
      // Another bridge on this topic says `offline` when it ends, and an old connection's will may come late.
      new Status({
        connection: connection('presence'),
        topic,
        ending: 'offline',
        isShared: true,
        onRefused,
        onConnected: () => (this.#tried ??= this.#tryWill()),
      }),
      new Status({
        connection: connection('presence-own'),
        topic: `${topic}/${name}`,
        // Nobody would ever say `online` there again, so nothing stays.
        ending: isNameLasting ? 'offline' : '',
        isShared: false,
        onRefused,
      }),
    ]
  }

  get states(): ConnectionState[] {
    return this.#statuses.map(({ state }) => state)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([this.#tried, ...this.#statuses.map((status) => status.close())])
  }

  async #tryWill(): Promise<void> {
    const { connection, markerTopic, timeoutMs, onWillNotRetained } = this.#options
    const { broker, clientId } = connection('presence')
    const { learnt } = broker
    const { signal } = this.#closing
    await learnRetainedWills({ connection: { broker, clientId }, markerTopic, timeoutMs, signal })
    if (learnt.retainedWills === false) onWillNotRetained()
  }
}

interface StatusOptions {
  connection: Omit<ConnectionOptions, 'handlers' | 'will' | 'role'>
  topic: string
  /** The payload when the bridge ends. An empty one clears the retained message. */
  ending: 'offline' | ''
  /** Whether others may say that they end, while this bridge runs. */
  isShared: boolean
  onRefused(error: CausewayError): void
  /** Called with each connection. */
  onConnected?(): void
}

/** MQTT.js gives SUBSCRIBE the lowest identifier that is free, so publishes take them from the upper end. */
const PACKET_IDS = { first: 65_000, count: 500 }
/** Time in which another bridge may say `online` first. */
const ANSWER_SPREAD_MS = 200

/** One retained status message. */
class Status implements ConnectionHandlers {
  readonly #options: StatusOptions
  readonly #connection: Connection
  #published = 0
  #isRefused = false
  #isClosing = false
  /** Runs while somebody else said that it ends, and nobody yet that it runs. */
  #answerTimer: NodeJS.Timeout | undefined

  constructor(options: StatusOptions) {
    this.#options = options
    const { connection, topic, ending } = options
    this.#connection = new Connection({
      ...connection,
      role: 'presence',
      keepSession: false,
      will: { topic, payload: Buffer.from(ending), qos: 1, retain: true },
      handlers: this,
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  connected(network: NetworkConnection): void {
    const { isShared, topic, onConnected } = this.#options
    onConnected?.()
    if (!isShared || this.#isRefused) return this.#publish('online')
    // Only behind the subscription, so that no `offline` of another bridge comes unseen in between.
    network.subscribe(topic, 1, { identifier: undefined, retained: 'never' }).then(
      () => this.#publish('online'),
      (error: CausewayError) => {
        // The connection was lost, and `connected` is called again.
        if (error.kind.code === 'broker-unavailable') return
        this.#options.onRefused(error)
        this.#publish('online')
      },
    )
  }

  acknowledged({ reasonCode = 0 }: { reasonCode?: number }): void {
    if (reasonCode < FIRST_REFUSAL || this.#isRefused) return
    // Mosquitto closes the connection after a refusal. Sending again after each reconnect would never end.
    this.#isRefused = true
    const { onRefused, topic } = this.#options
    onRefused(refusal(reasonCode, `The broker refused the status message for ${topic}`))
  }

  message({ payload }: Message): void {
    clearTimeout(this.#answerTimer)
    if (this.#isClosing || payload.toString() !== 'offline') return
    this.#answerTimer = setTimeout(() => this.#publish('online'), Math.random() * ANSWER_SPREAD_MS)
  }

  async close(): Promise<void> {
    this.#isClosing = true
    clearTimeout(this.#answerTimer)
    this.#publish(this.#options.ending)
    await this.#connection.close()
  }

  #publish(status: string): void {
    const { network } = this.#connection
    if (this.#isRefused || network === undefined || (this.#isClosing && status === 'online')) return
    const id = PACKET_IDS.first + (this.#published % PACKET_IDS.count)
    this.#published += 1
    network.publish({ topic: this.#options.topic, payload: Buffer.from(status), qos: 1, retain: true }, id, false)
  }
}
