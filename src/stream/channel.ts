import { CHUNK_BYTES, catchUp } from './catch-up.ts'
import type { Held } from '../memory/account.ts'
import type { StreamCounters } from './counters.ts'
import { eventId } from './event-id.ts'
import { encodeEvent, type EventData, type EventName, type GapReason } from './events.ts'
import type { FanOut, FanOutChannel } from './fan-out.ts'
import type { Format } from './formats/format.ts'
import { type Chunk, Log, type LogLimits } from './log.ts'
import type { Reader } from './reader.ts'
import type { Frame, Slab, SlabPool, StoredFrame } from './slab.ts'

export interface ChannelOptions {
  format: Format
  limits: LogLimits
  /** First part of its event ids, without a dash. */
  epoch: string
  /** Sequence of the last event before this channel. */
  baseSequence: number
  /** Whether its filters are those of a shared subscription: each message is for one reader only. */
  isSharedSubscription: boolean
  /** Where the memory of its log is counted; nowhere without it. */
  held?: Held
  /** As for `Log`. */
  slabs?: SlabPool
  /** Decides when it writes to its readers. */
  fanOut: FanOut
  counters: Pick<StreamCounters, 'gap'>
}

/** A log of encoded events in one format, and the readers that follow it. */
export class Channel implements FanOutChannel {
  readonly format: Format
  readonly log: Log
  readonly readers = new Set<Reader>()
  readonly counters: Pick<StreamCounters, 'gap'>
  readonly epoch: string
  /** Sequence of the last event before this channel. */
  readonly baseSequence: number
  /**
   * Whether each message is for one reader only. Then messages wait in a work queue, and the log stays empty.
   */
  readonly isSharedSubscription: boolean
  /** Gap events sent to all readers so far. */
  gaps = 0
  readonly #fanOut: FanOut
  /** Readers still to be written to in this round; undefined between two rounds. */
  #round: Iterator<Reader> | undefined
  /** Bytes appended since the round began. */
  #unwrittenBytes = 0
  /** What was read from the log during this call of `write`, by position. */
  #chunks: Map<number, Chunk> | undefined

  constructor(options: ChannelOptions) {
    const { format, limits, epoch, baseSequence, isSharedSubscription, held, slabs, fanOut, counters } = options
    this.format = format
    this.counters = counters
    this.epoch = epoch
    this.baseSequence = baseSequence
    this.isSharedSubscription = isSharedSubscription
    this.#fanOut = fanOut
    this.log = new Log(limits, baseSequence, held, slabs)
  }

  /** Each reader gets it when its turn comes, in one write with all else that came until then. */
  add(frame: Frame): void {
    const stored = this.log.store(frame)
    this.append(stored)
    this.pay(stored.slab)
  }

  /** As `add`, for a frame that the log of this channel or of another one has stored, and pays for afterwards. */
  append(stored: StoredFrame): void {
    this.log.append(stored)
    if (this.readers.size === 0) return
    this.#unwrittenBytes += stored.frame.bytes.length
    // One turn of the event loop may bring more than the log holds. Then even a fast reader, still waiting for its
    // turn, would find its next messages overwritten.
    if (this.#unwrittenBytes >= CHUNK_BYTES) this.writeAll()
    else this.#fanOut.add(this)
  }

  /**
   * Counts the memory of a slab in which this log has stored a frame, until no log holds any frame of it. Where there
   * is no room, its log shrinks: each reader whose socket takes more gets what is new all the same, and the others a
   * `gap`.
   */
  pay(slab: Slab): void {
    const { log } = this
    if (log.pay(slab)) return
    this.writeAll()
    // A quarter, so that this does not happen again at each frame.
    log.shrink(Math.max(slab.size, log.bytes / 4), log.end - 1)
    if (log.pay(slab)) return
    log.shrink(Infinity)
    log.payAnyway(slab)
  }

  get hasUnwritten(): boolean {
    return this.#unwrittenBytes > 0 || this.#round !== undefined
  }

  write(maxReaders: number): number {
    if (!this.hasUnwritten) return 0
    if (this.#round === undefined) {
      this.#round = this.readers.values()
      this.#unwrittenBytes = 0
    }
    this.#chunks = new Map()
    let written = 0
    for (; written < maxReaders; written += 1) {
      const { value: reader, done } = this.#round.next()
      if (done) {
        this.#round = undefined
        break
      }
      catchUp(this, reader)
    }
    this.#chunks = undefined
    return written
  }

  /**
   * Overwrites the oldest frames until so many bytes are gone. Those that a reader is to be written in this round, or
   * the next one, stay.
   */
  shrink(bytes: number): void {
    this.log.shrink(bytes, this.#writtenUpTo)
  }

  /** Writes to all readers whose sockets take more, unless it is writing already. */
  writeAll(): void {
    if (!this.hasUnwritten || this.#chunks !== undefined) return
    this.#round = this.readers.values()
    this.#unwrittenBytes = 0
    this.write(Infinity)
  }

  /** Position up to which all readers whose sockets take more have been written everything. */
  get #writtenUpTo(): number {
    let position = this.log.end
    if (!this.hasUnwritten) return position
    for (const reader of this.readers) if (reader.isReady) position = Math.min(position, reader.position)
    return position
  }

  /** An event for every reader: in order with the messages, except where those wait in a work queue. */
  broadcast(event: EventName, frame: Frame): void {
    if (event === 'gap') this.gaps += 1
    if (!this.isSharedSubscription) return this.add(frame)
    for (const reader of this.readers) reader.announce(event, frame.bytes)
  }

  /** As `Log.read`. During one call of `write`, all readers at the same position share one buffer. */
  read(position: number, maxBytes: number): Chunk {
    if (this.#chunks === undefined) return this.log.read(position, maxBytes)
    let chunk = this.#chunks.get(position)
    if (chunk === undefined) this.#chunks.set(position, (chunk = this.log.read(position, maxBytes)))
    return chunk
  }

  /**
   * Counts and encodes a gap for one reader. Its id lies just before the oldest frame: resuming from it finds no gap.
   */
  gap(reason: GapReason, dropped?: number): Buffer {
    this.counters.gap(reason, dropped ?? 0)
    return this.encode('gap', this.log.overwrittenUpTo, { reason, ...(dropped !== undefined && { dropped }) })
  }

  /**
   * @param sequence without it the event has no id
   * @param lacksRetained as in `eventId`
   */
  encode<Name extends EventName>(
    event: Name,
    sequence: number | undefined,
    data: EventData[Name],
    lacksRetained = false,
  ): Buffer {
    const id = sequence === undefined ? undefined : eventId(this.epoch, sequence, lacksRetained)
    return encodeEvent(this.format, event, id, data)
  }
}
