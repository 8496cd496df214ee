import { CausewayError } from '../errors.ts'
import { withTimeout } from './with-timeout.ts'
import { checkSubscribe } from './capabilities.ts'
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
  /** By topic. */
  messages: Map<string, Message>
  /** How many messages arrived, repeated ones included. */
  arrived: number
  bytes: number
  /** The limits are exceeded, and the messages discarded. */
  hasOverflowed: boolean
}

/**
 * Reads retained messages. It does so on a connection of its own, so that no live stream receives them. Reads run in
 * batches, one batch at a time: while one runs, all reads of the same filter share one snapshot of the next.
 */
export class Retained implements ConnectionHandlers {
  readonly #options: RetainedOptions
  readonly #connection: Connection
  /** The snapshots of the batch that has not started yet, by filter. */
  readonly #nextBatch = new Map<string, Promise<Snapshot>>()
  /** The snapshots that are being read. */
  readonly #reading = new TopicTree<Snapshot>()
  /** Settles when the last batch that started is over. */
  #currentBatch: Promise<unknown> = Promise.resolve()
  /** Resolves when the next batch starts; undefined while nothing waits for it. */
  #nextBatchStart: Promise<void> | undefined

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
   * Resolves with the retained messages that match any of the filters, not older than this call; each topic once.
   * @throws CausewayError if the broker refuses a filter or cannot be reached, or more match than the limits allow
   */
  async read(filters: readonly string[]): Promise<Message[]> {
    await this.#connection.ready()
    const snapshots = await Promise.all(filters.map((filter) => this.#snapshot(filter)))
    const messages = new Map(snapshots.flatMap((snapshot) => [...snapshot.messages]))
    const overflowed = snapshots.find((snapshot) => snapshot.hasOverflowed)
    if (overflowed !== undefined || this.#exceedsLimits([...messages.values()])) {
      throw new CausewayError(
        'too-many-retained',
        `More retained messages match ${overflowed?.filter ?? filters.join(', ')} than CAUSEWAY_RETAINED_MAX and ` +
          'CAUSEWAY_RETAINED_MAX_BYTES allow; a narrower filter matches fewer',
      )
    }
    return [...messages.values()]
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  message(message: Message): void {
    // While the filter is subscribed to, live messages arrive as well.
    if (!message.retain) return
    for (const snapshot of this.#reading.match(message.topic)) this.#add(snapshot, message)
  }

  #add(snapshot: Snapshot, message: Message): void {
    const { limits } = this.#options
    const { messages } = snapshot
    snapshot.arrived += 1
    if (snapshot.hasOverflowed) return
    // With overlapping filters a message may arrive once for each of them. Each copy is added to the snapshots of all.
    snapshot.bytes += message.payload.length - (messages.get(message.topic)?.payload.length ?? 0)
    messages.set(message.topic, message)
    if (messages.size <= limits.messages && snapshot.bytes <= limits.bytes) return
    snapshot.hasOverflowed = true
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
    let snapshot = this.#nextBatch.get(filter)
    if (snapshot === undefined) {
      // A read must see what was published before it, so it cannot join a batch that has already started.
      this.#nextBatchStart ??= this.#currentBatch.then(() => {
        this.#nextBatchStart = undefined
        this.#currentBatch = Promise.allSettled(this.#nextBatch.values())
        this.#nextBatch.clear()
      })
      snapshot = this.#nextBatchStart.then(() => this.#readSnapshot(filter))
      this.#nextBatch.set(filter, snapshot)
    }
    return snapshot
  }

  async #readSnapshot(filter: string): Promise<Snapshot> {
    const network = this.#connection.requireNetwork()
    const capabilities = this.#connection.capabilities!
    checkSubscribe(filter, capabilities)
    const snapshot: Snapshot = { filter, messages: new Map(), arrived: 0, bytes: 0, hasOverflowed: false }
    this.#reading.set(filter, snapshot)
    // Over MQTT 3.1.1 a client cannot set Receive Maximum, and Mosquitto drops all but 1020 retained messages at QoS 1.
    // At QoS 0 it drops none, as long as they are small.
    const qos = capabilities.protocol === 5 ? 1 : 0
    try {
      await withTimeout(this.#receiveAll(network, snapshot, qos), this.#options.timeoutMs)
      return snapshot
    } finally {
      this.#reading.delete(filter)
      if (this.#connection.network === network) network.unsubscribe(filter).catch(() => {})
    }
  }

  /**
   * MQTT does not mark the last retained message. All are taken to have arrived after `SETTLING_ROUND_TRIPS` round
   * trips in a row during which none arrived.
   */
  async #receiveAll(network: NetworkConnection, snapshot: Snapshot, qos: QoS): Promise<void> {
    await network.subscribe(snapshot.filter, qos, { identifier: undefined, retained: 'always' })
    for (let quietTrips = 0; quietTrips < SETTLING_ROUND_TRIPS;) {
      const before = snapshot.arrived
      await network.roundTrip()
      quietTrips = snapshot.arrived > before ? 0 : quietTrips + 1
    }
  }
}
