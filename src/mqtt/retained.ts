import { CausewayError } from '../errors.ts'
import { withTimeout } from './with-timeout.ts'
import { type Capabilities, checkSubscribe } from './capabilities.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { Message, QoS } from './message.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from './client/network-connection.ts'
import { TopicTree } from './topic-tree.ts'

export interface RetainedOptions {
  connection: Omit<ConnectionOptions, 'handlers'>
  timeoutMs: number
  limits: { messages: number; bytes: number }
}

/** The retained messages of one filter at one moment. */
interface Snapshot {
  filter: string
  messages: Map<string, Message>
  /** Messages that came for it, twice the same ones included. */
  arrived: number
  bytes: number
  overflowed: boolean
}

/**
 * Reads retained messages on a connection of its own, so that nobody's live stream sees them.
 * One batch at a time: reads of the same filter that come while one runs share the next.
 */
export class Retained implements ConnectionHandlers {
  readonly #options: RetainedOptions
  readonly #connection: Connection
  readonly #wanted = new Map<string, Promise<Snapshot>>()
  readonly #running = new TopicTree<Snapshot>()
  #batch: Promise<unknown> = Promise.resolve()
  #start: Promise<void> | undefined
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined

  constructor(options: RetainedOptions) {
    this.#options = options
    this.#connection = new Connection({ ...options.connection, keepSession: false, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /**
   * The retained messages that match any of the filters, as they are after this call; each topic once.
   * @throws CausewayError where the broker refuses a filter or is away, or more match than the limits allow
   */
  async read(filters: readonly string[]): Promise<Message[]> {
    await this.#connection.attempted()
    if (this.#network === undefined) {
      throw (
        this.#unavailable ??
        new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
      )
    }
    const snapshots = await Promise.all(filters.map((filter) => this.#snapshot(filter)))
    const messages = new Map(snapshots.flatMap((snapshot) => [...snapshot.messages]))
    const overflowed = snapshots.find((snapshot) => snapshot.overflowed)
    if (overflowed !== undefined || this.#exceedsLimits([...messages.values()])) {
      throw new CausewayError(
        'too-many-retained',
        `More retained messages match ${overflowed?.filter ?? filters.join(', ')} than CAUSEWAY_RETAINED_MAX and CAUSEWAY_RETAINED_MAX_BYTES allow; a narrower filter matches fewer`,
      )
    }
    return [...messages.values()]
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  connected(network: NetworkConnection, capabilities: Capabilities): void {
    this.#network = network
    this.#capabilities = capabilities
    this.#unavailable = undefined
  }

  lost(): void {
    this.#network = undefined
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
  }

  message(message: Message): void {
    // The filter is subscribed to for a moment, in which live messages come too.
    if (!message.retain) return
    for (const snapshot of this.#running.match(message.topic)) this.#keep(snapshot, message)
  }

  #keep(snapshot: Snapshot, message: Message): void {
    const { limits } = this.#options
    const { messages } = snapshot
    snapshot.arrived += 1
    if (snapshot.overflowed) return
    // Filters that overlap bring a message to each other's snapshots too, more than once.
    snapshot.bytes += message.payload.length - (messages.get(message.topic)?.payload.length ?? 0)
    messages.set(message.topic, message)
    if (messages.size <= limits.messages && snapshot.bytes <= limits.bytes) return
    snapshot.overflowed = true
    messages.clear()
  }

  #exceedsLimits(messages: Message[]): boolean {
    const { limits } = this.#options
    return (
      messages.length > limits.messages ||
      messages.reduce((bytes, { payload }) => bytes + payload.length, 0) > limits.bytes
    )
  }

  #snapshot(filter: string): Promise<Snapshot> {
    let snapshot = this.#wanted.get(filter)
    if (snapshot === undefined) {
      // Reads that come later must see what was published before them, so they wait for this batch and begin anew.
      this.#start ??= this.#batch.then(() => {
        this.#start = undefined
        this.#batch = Promise.allSettled(this.#wanted.values())
        this.#wanted.clear()
      })
      snapshot = this.#start.then(() => this.#take(filter))
      this.#wanted.set(filter, snapshot)
    }
    return snapshot
  }

  async #take(filter: string): Promise<Snapshot> {
    const network = this.#network
    if (network === undefined) {
      throw (
        this.#unavailable ??
        new CausewayError('broker-unavailable', 'The connection to the broker was lost', { retryAfter: 1 })
      )
    }
    const capabilities = this.#capabilities!
    checkSubscribe(filter, capabilities)
    const snapshot: Snapshot = { filter, messages: new Map(), arrived: 0, bytes: 0, overflowed: false }
    this.#running.set(filter, snapshot)
    // Over 3.1.1, where nothing widens its window, Mosquitto drops all but 1020 messages at QoS 1, and none of small ones at 0.
    const qos = capabilities.protocol === 5 ? 1 : 0
    try {
      await withTimeout(this.#drain(network, snapshot, qos), this.#options.timeoutMs)
      return snapshot
    } finally {
      this.#running.delete(filter)
      if (this.#network === network) network.unsubscribe(filter).catch(() => {})
    }
  }

  /** MQTT does not say which retained message is the last. */
  async #drain(network: NetworkConnection, snapshot: Snapshot, qos: QoS): Promise<void> {
    await network.subscribe(snapshot.filter, qos, { identifier: undefined, retained: 'always' })
    for (let quiet = 0; quiet < SETTLING_ROUND_TRIPS; quiet += 1) {
      const before = snapshot.arrived
      await network.roundTrip()
      if (snapshot.arrived > before) quiet = -1
    }
  }
}
