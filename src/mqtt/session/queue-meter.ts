import { randomBytes } from 'node:crypto'

export interface QueueMeterOptions {
  /** Most messages that the broker keeps for a client; more than 0. */
  max: number
  /**
   * Publishes a marker to the session itself, behind all that was written before.
   * @returns false where no more may be sent for now
   */
  send(payload: Buffer): boolean
  /** The broker's queue was full or nearly so: what came for the session then may have been dropped. */
  overflowed(): void
}

interface Marker {
  number: number
  /** Messages that had been received when it was sent. */
  sentAt: number
  /** Messages up to this one were not in the queue any more. */
  since: number
}

/** With so many of the messages that the broker keeps at most, it may have kept a few more. */
const NEARLY_FULL = 0.95
/**
 * So many messages between two markers. A queue that was full still has `NEARLY_FULL` of its messages when the next
 * marker is sent.
 */
const SPACING = 0.04
/** A queue that stays full is told of again after so many messages. */
const QUIET_AFTER = 0.25
/** A marker that has not come after so many messages was dropped. */
const DROPPED_AFTER = 1.25
const RUN_BYTES = 6

/**
 * Measures how many messages wait at the broker for one session, with markers: messages of the session to itself. A
 * broker hands on in the order in which it took, so what comes between the sending of a marker and its arrival was in
 * the broker's queue when it took the marker. A queue that is full has no room for the marker either: then it never
 * comes, and the messages that were in front of it do.
 */
export class QueueMeter {
  readonly #options: QueueMeterOptions
  readonly #limit: number
  readonly #spacing: number
  readonly #quietAfter: number
  readonly #droppedAfter: number
  /** Names this meter, as the session may still have markers of another bridge. */
  readonly #run = randomBytes(RUN_BYTES).toString('hex')
  #isRunning = false
  #hasMarkers = false
  #countsUnacknowledged = false
  #lastSent = 0
  /** Messages of this connection, how many came for the first time, and how many are acknowledged. */
  #received = 0
  #receivedNew = 0
  #acknowledged = 0
  /**
   * Markers on their way, the oldest first. The first one of a connection stands for the connect and is never sent: a
   * marker that comes later shows as much.
   */
  #markers: Marker[] = []
  /** The first message of the connection makes a marker, however few there are. */
  #mustSend = false
  /** `#receivedNew` when the latest marker was sent. */
  #sentAt = 0
  /** `#received` when the latest of the markers was sent that found the queue full, and when that was told of last. */
  #fullAt = -1
  #toldAt: number | undefined

  constructor(options: QueueMeterOptions) {
    this.#options = options
    this.#limit = Math.ceil(NEARLY_FULL * options.max)
    this.#spacing = Math.ceil(SPACING * options.max)
    this.#quietAfter = Math.ceil(QUIET_AFTER * options.max)
    this.#droppedAfter = Math.ceil(DROPPED_AFTER * options.max)
  }

  /** Whether it counts all that comes, as no marker may be sent. `quiet` ends that. */
  get countsAll(): boolean {
    return this.#isRunning && !this.#hasMarkers
  }

  /**
   * To be called before the first message of a connection. Where the connection before was lost while some of the queue
   * was still to come, what was acknowledged there counts as well: the rest of a full queue would look like one that
   * never was full. What was not acknowledged comes again.
   * @param hasMarkers the session has its subscription to the marker, or has asked for it. Otherwise nothing shows what
   *   is new, so all counts that comes until `quiet`, and the queue is measured only once
   * @param countsUnacknowledged what was sent and not acknowledged takes room in the queue, also while the client is
   *   connected
   */
  start(hasMarkers: boolean, countsUnacknowledged: boolean): void {
    const carried = this.#carried
    this.#isRunning = true
    this.#hasMarkers = hasMarkers
    this.#mustSend = carried > 0
    this.#countsUnacknowledged = countsUnacknowledged
    this.#received = 0
    this.#receivedNew = 0
    this.#acknowledged = 0
    this.#sentAt = 0
    this.#fullAt = -1
    this.#toldAt = undefined
    // Its number is its own: markers of an earlier connection may still come.
    this.#lastSent += 1
    this.#markers = [{ number: this.#lastSent, sentAt: 0, since: -carried }]
  }

  /** Messages behind the oldest marker on its way that are acknowledged, and that nobody was told of. */
  get #carried(): number {
    const [oldest] = this.#markers
    if (oldest === undefined) return 0
    return Math.max(0, this.#acknowledged - Math.max(oldest.since, this.#toldAt ?? -Infinity))
  }

  /** Nothing waits at the broker. */
  quiet(): void {
    if (this.countsAll) this.reset()
  }

  /** The connection is lost. */
  stop(): void {
    this.#isRunning = false
  }

  /** Nothing that was counted shows how full the queue is: it is empty, or nobody knows. */
  reset(): void {
    this.stop()
    this.#markers = []
  }

  /** A message came that may have waited in the queue: one at QoS 1. `isNew`: the broker did not send it before. */
  received(isNew: boolean): void {
    if (!this.#isRunning) return
    this.#received += 1
    if (isNew) this.#receivedNew += 1
    if (this.#hasMarkers && (this.#mustSend || this.#receivedNew - this.#sentAt >= this.#spacing)) this.#send()
    for (const { sentAt, since } of this.#markers) {
      if (this.#received - since < this.#limit) break
      this.#fullAt = Math.max(this.#fullAt, sentAt)
    }
    if (this.#toldAt === undefined || this.#received - this.#toldAt >= this.#quietAfter) this.#tell()
  }

  /** A message of this connection was acknowledged. */
  acknowledged(): void {
    if (this.#isRunning) this.#acknowledged += 1
  }

  /**
   * A marker came.
   * @returns whether this meter sent it, and not that of another bridge
   */
  arrived(payload: Buffer): boolean {
    const [run, number] = payload.toString().split(' ')
    if (run !== this.#run) return false
    // Those before it were dropped, if they have not come.
    this.#markers = this.#markers.filter((marker) => marker.number > Number(number))
    // All before it has come, so what was lost before it is told of now at the latest.
    this.#tell()
    return true
  }

  /** Says once that the queue was full, if it was so when a marker was sent after the last time. */
  #tell(): void {
    if (!this.#isRunning || this.#fullAt < (this.#toldAt ?? 0)) return
    this.#toldAt = this.#received
    if (!this.#hasMarkers) this.reset()
    this.#options.overflowed()
  }

  #send(): void {
    this.#markers = this.#markers.filter(({ sentAt }) => this.#received - sentAt < this.#droppedAfter)
    const since = this.#countsUnacknowledged ? this.#acknowledged : this.#received
    const marker = { number: this.#lastSent + 1, sentAt: this.#received, since }
    if (this.#options.send(Buffer.from(`${this.#run} ${marker.number}`))) {
      this.#mustSend = false
      this.#lastSent += 1
      this.#sentAt = this.#receivedNew
    } else if (this.#markers.length > 0) return
    // One that may not be sent counts all the same, until one that is sent comes.
    this.#markers.push(marker)
  }
}
