import { setTimeout as delay } from 'node:timers/promises'
import { CausewayError } from '../errors.ts'
import type { MemoryShare } from '../memory/account.ts'
import { type Capabilities, checkSubscribe } from './capabilities.ts'
import { type NetworkConnection, SETTLING_ROUND_TRIPS } from './client/network-connection.ts'
import type { Acknowledgement } from './client/packets.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import { MarkerLine, type Markers } from './markers.ts'
import { type Message, sizeOf, sizeOfProperties } from './message.ts'
import { RetainedTrial } from './retained/retained-trial.ts'
import type { MarkerPoint, Snapshot } from './retained/snapshot.ts'
import { SnapshotQueue } from './retained/snapshot-queue.ts'
import { untilSilent } from './retained/until-silent.ts'
import { TopicTree } from './topic-tree.ts'
import { filterContains, hasWildcard } from './topic.ts'

export interface RetainedOptions {
  connection: Omit<ConnectionOptions, 'handlers'>
  /** How long the broker may send nothing, and how long a read may wait for its turn. */
  timeoutMs: number
  limits: { messages: number; bytes: number }
  markers: Markers
}

export interface RetainedMessages {
  messages: Message[]
  /** A marker sent once all messages had been read; undefined where markers do not work. */
  marker: MarkerPoint | undefined
  /** Gives back the memory that the messages are counted with. To be called once they are not needed any more. */
  release(): void
}

/** Name of the retained connection among the sources of markers. */
const SOURCE = 'retained'
/** Most snapshots that are read at the same time. */
const SNAPSHOTS_MAX = 6
/** Each snapshot has one unacknowledged marker. So many more unacknowledged publishes may be made at the same time. */
const OTHER_PUBLISHES_MAX = 4
/**
 * Where retained messages come behind the marker, how many times as long as one did the silence has to last, and how
 * long at least: HiveMQ hands them on in lots of 25, with some milliseconds in between.
 */
const SILENCE_FACTOR = 3
const SILENCE_MIN_MS = 100
const SILENCE_MAX_MS = 1000
/** Between two round trips while nothing comes. */
const QUIET_TRIP_MS = 10

/**
 * Reads retained messages. It does so on a connection of its own, so that no live stream receives them.
 *
 * One read of a filter is a snapshot. MQTT does not mark the last retained message. But a broker handles SUBSCRIBE
 * before the marker that is published behind it, so where the marker arrives first, there is no more. All reads of a
 * filter that wait share one snapshot. Filters that overlap are read one after the other, so no message comes more than
 * once at a time, and callers take turns.
 */
export class Retained implements ConnectionHandlers {
  readonly #options: RetainedOptions
  readonly #connection: Connection
  readonly #line: MarkerLine
  readonly #queue: SnapshotQueue
  readonly #trial: RetainedTrial
  /** The snapshots that are being read. No two of them overlap. */
  readonly #reading = new TopicTree<Snapshot>()
  /** Resolves once it is known how this broker serves retained messages, or the connection is lost before. */
  #learnt: Promise<void> = Promise.resolve()
  /** A retained message arrived that nobody waited for any more, or may have. */
  #strays = false

  constructor(options: RetainedOptions) {
    this.#options = options
    this.#line = new MarkerLine(
      options.markers,
      SOURCE,
      options.timeoutMs,
      // Where it comes at QoS 0, the retained messages do, too, so it cannot overtake them.
      () => Promise.resolve(),
    )
    this.#trial = new RetainedTrial(options.markers, this.#line, options.connection.broker)
    this.#queue = new SnapshotQueue({
      runningMax: () => {
        const receiveMaximum = this.#connection.capabilities?.receiveMaximum ?? Infinity
        return this.#trial.isLate ? 1 : Math.max(1, Math.min(SNAPSHOTS_MAX, receiveMaximum - OTHER_PUBLISHES_MAX))
      },
      waitMs: options.timeoutMs,
      run: (snapshot) => this.#readSnapshot(snapshot),
    })
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
   * @param share pays for the messages, together with all others that wait for the same ones
   * @throws CausewayError if the broker refuses a filter or cannot be reached, more match than the limits allow, there
   *   is no memory for them, or it does not show whether there are any
   */
  async read(filters: readonly string[], share: MemoryShare): Promise<RetainedMessages> {
    await this.#ready()
    // The broker would send each message once for each filter.
    const needed = filters.filter(
      (filter, index) =>
        !filters.some(
          (other, at) =>
            at !== index && filterContains(other, filter) && (at < index || !filterContains(filter, other)),
        ),
    )
    const uses = needed.map((filter) => this.#queue.add(filter, share))
    const release = (): void => {
      for (const use of uses) use.release()
    }
    try {
      const snapshots = await Promise.all(uses.map((use) => use.done))
      const messages = new Map(snapshots.flatMap((snapshot) => [...snapshot.messages]))
      if (this.#exceedsLimits(messages)) throw tooMany(filters)
      const marker = snapshots.map((snapshot) => snapshot.marker).reduce(later, undefined)
      return { messages: [...messages.values()], marker, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /**
   * Resolves once it is known how the broker serves retained messages, as far as that shows.
   * @throws CausewayError where the broker cannot be reached
   */
  learnt(): Promise<void> {
    return this.#ready()
  }

  async close(): Promise<void> {
    this.#trial.end()
    this.#line.close()
    await this.#connection.close()
  }

  connected(network: NetworkConnection, capabilities: Capabilities): void {
    this.#strays = false
    this.#line.connected(network, false)
    this.#learnt = this.#options.markers.learning = this.#learn(network, capabilities)
  }

  lost(): void {
    this.#trial.lost()
    this.#line.lost()
    this.#line.close()
  }

  acknowledged(packet: Acknowledgement): void {
    this.#line.acknowledged(packet)
  }

  message(message: Message, identifiers: readonly number[]): void {
    if (this.#line.message(message, identifiers)) return
    // While the filter is subscribed to, live messages arrive as well.
    if (!message.retain) return
    const [snapshot] = this.#reading.match(message.topic)
    if (snapshot === undefined) {
      if (!this.#strays) this.#trial.sawLate()
      return
    }
    this.#add(snapshot, message)
  }

  async #ready(): Promise<void> {
    let network = await this.#connection.ready()
    // A broker may close the connection over the first marker. What is learnt then is known after the reconnect.
    for (let known: Promise<void> | undefined; known !== this.#learnt;) {
      known = this.#learnt
      await untilSilent(known, () => network.bytesRead, this.#options.timeoutMs)
      network = await this.#connection.ready()
    }
  }

  async #learn(network: NetworkConnection, { retain, wildcards }: Capabilities): Promise<void> {
    const { markers, connection } = this.#options
    await this.#line.learn()
    if (markers.work !== undefined) connection.broker.learnt.markers = markers.work
    if (markers.work && retain) await this.#trial.run(network, wildcards)
    // It looks for the subscribers before it acknowledges. The one broker that is known to mix the order, Artemis, does
    // not say this. The trial of the order has 530 messages: they took a fifth of the processor time of a start.
    const isHere = this.#connection.network === network
    if (isHere && this.#line.saysNobodySubscribes) connection.broker.learnt.order ??= 'kept'
  }

  #add(snapshot: Snapshot, message: Message): void {
    const { limits } = this.#options
    if (snapshot.isOver) return
    const before = snapshot.messages.get(message.topic)
    snapshot.arrived += 1
    snapshot.bytes += contentBytes(message) - (before === undefined ? 0 : contentBytes(before))
    snapshot.messages.set(message.topic, message)
    if (snapshot.messages.size > limits.messages || snapshot.bytes > limits.bytes) {
      return this.#giveUp(snapshot, tooMany([snapshot.filter]))
    }
    if (!snapshot.pay(sizeOf(message) - (before === undefined ? 0 : sizeOf(before)))) {
      this.#giveUp(
        snapshot,
        new CausewayError('overloaded', `There is no memory for the retained messages of ${snapshot.filter} now`, {
          retryAfter: 1,
        }),
      )
    }
  }

  /** Those who wait get the error at once. What the broker has sent already arrives all the same, and is discarded. */
  #giveUp(snapshot: Snapshot, error: CausewayError): void {
    snapshot.fail(error)
    this.#connection.network?.unsubscribe(snapshot.filter).catch(() => {})
  }

  #exceedsLimits(messages: ReadonlyMap<string, Message>): boolean {
    const { limits } = this.#options
    let bytes = 0
    for (const message of messages.values()) bytes += contentBytes(message)
    return messages.size > limits.messages || bytes > limits.bytes
  }

  /** Resolves once the broker has sent all of it, which may be after those who wait have their answer. */
  async #readSnapshot(snapshot: Snapshot): Promise<void> {
    const { filter } = snapshot
    try {
      const network = this.#connection.requireNetwork()
      const capabilities = this.#connection.capabilities!
      checkSubscribe(filter, capabilities)
      if (hasWildcard(filter) && this.#trial.wildcards === false) {
        throw new CausewayError(
          'retained-wildcards-not-supported',
          `The broker hands on retained messages for exact topics only, and ${filter} has wildcards; a stream with ` +
            'retained=false does without them',
        )
      }
      // Over MQTT 3.1.1 a client cannot set Receive Maximum, and Mosquitto drops all but 1020 retained messages at
      // QoS 1. At QoS 0 it drops none, as long as they are small.
      const qos = capabilities.protocol === 5 ? 1 : 0
      this.#reading.set(filter, snapshot)
      try {
        const granted = network.subscribe(filter, qos, { identifier: undefined, retained: 'always' })
        await this.#receiveAll(network, granted, snapshot)
      } finally {
        this.#reading.delete(filter)
        if (this.#connection.network === network && !snapshot.isOver) network.unsubscribe(filter).catch(() => {})
      }
      snapshot.succeed()
    } catch (error) {
      this.#strays = true
      snapshot.fail(error as CausewayError)
    }
  }

  async #receiveAll(network: NetworkConnection, granted: Promise<unknown>, snapshot: Snapshot): Promise<void> {
    const silent = <Answer>(answer: Promise<Answer>): Promise<Answer> =>
      untilSilent(answer, () => network.bytesRead, this.#options.timeoutMs)
    const hasMarkers = this.#options.markers.work === true
    if (hasMarkers && !this.#trial.isLate) {
      await silent(Promise.all([granted, this.#markerTrip()]))
      const before = snapshot.arrived
      snapshot.marker = { source: SOURCE, number: await silent(this.#markerTrip()) }
      if (snapshot.arrived === before) return
      this.#trial.sawLate()
    }
    const kind = hasWildcard(snapshot.filter) ? 'wildcard' : 'exact'
    const comparison = hasMarkers ? this.#trial.watch(network, kind) : undefined
    await silent(granted)
    let arrivedMs = performance.now()
    /** The longest that a message took behind the one before it or SUBACK; only where they come late. */
    let pauseMs = comparison === undefined ? 0 : (await silent(comparison)) - arrivedMs
    const silenceMs = (): number =>
      hasMarkers ? Math.min(Math.max(SILENCE_FACTOR * pauseMs, SILENCE_MIN_MS), SILENCE_MAX_MS) : 0
    const isQuiet = (): boolean => performance.now() - arrivedMs >= silenceMs()
    for (let quietTrips = 0; ;) {
      const before = snapshot.arrived
      await silent(network.roundTrip())
      if (snapshot.arrived !== before) {
        quietTrips = 0
        pauseMs = Math.max(pauseMs, performance.now() - arrivedMs)
        arrivedMs = performance.now()
        continue
      }
      quietTrips += 1
      if (quietTrips < SETTLING_ROUND_TRIPS || !isQuiet()) {
        if (hasMarkers) await delay(QUIET_TRIP_MS)
        continue
      }
      if (!hasMarkers) return
      // Behind a pause of the broker, the marker may be what shows that it was one.
      snapshot.marker = { source: SOURCE, number: await silent(this.#markerTrip()) }
      if (snapshot.arrived === before) return
      arrivedMs = performance.now()
    }
  }

  /** A round trip to the broker with a marker, whose number it resolves with. */
  async #markerTrip(): Promise<number> {
    const number = this.#line.send()
    if (await this.#line.arrived(SOURCE, number)) return number
    throw new CausewayError('broker-unavailable', 'The connection to the broker was lost before it answered', {
      retryAfter: 1,
    })
  }
}

/** The bytes that CAUSEWAY_RETAINED_MAX_BYTES limits. */
function contentBytes({ payload, properties }: Message): number {
  return payload.length + sizeOfProperties(properties)
}

function later(one: MarkerPoint | undefined, other: MarkerPoint | undefined): MarkerPoint | undefined {
  return one !== undefined && other !== undefined && one.number > other.number ? one : (other ?? one)
}

function tooMany(filters: readonly string[]): CausewayError {
  return new CausewayError(
    'too-many-retained',
    `More retained messages match ${filters.join(', ')} than CAUSEWAY_RETAINED_MAX and CAUSEWAY_RETAINED_MAX_BYTES ` +
      'allow; a narrower filter matches fewer',
  )
}
