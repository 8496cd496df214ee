import { CHUNK_BYTES, follow } from './catch-up.ts'
import type { EventName, Format } from './formats/format.ts'
import { type Chunk, type Frame, Log, type LogLimits } from './log.ts'
import type { Reader } from './reader.ts'
import type { FanOutChannel, FanOut } from './fan-out.ts'

/** Why messages are missing. */
export type GapReason =
  | 'unknown-id'
  | 'overrun'
  | 'broker-session-lost'
  | 'broker-connection-lost'
  | 'subscription-refused'

export interface StreamCounters {
  wrote(events: number, bytes: number): void
  gap(reason: GapReason, dropped: number): void
}

export interface ChannelOptions {
  filters: readonly string[]
  /** Whether each message is for one of the readers only. */
  shared: boolean
  format: Format
  limits: LogLimits
  /** When it writes to its readers. */
  fanOut: FanOut
  counters: StreamCounters
  /** Sequence of the last event before this channel. */
  floor: number
  /** The event id of a sequence. */
  id: (sequence: number) => string
}

/** One set of filters in one format: a log of encoded events and the readers that follow it. */
export class Channel implements FanOutChannel {
  readonly filters: readonly string[]
  readonly format: Format
  readonly log: Log
  readonly readers = new Set<Reader>()
  readonly counters: StreamCounters
  /** Sequence of the last event before this channel. */
  readonly floor: number
  /** Gaps announced to every reader so far. */
  gaps = 0
  /** Whether each message is for one of the readers only. Its messages then wait in a work queue, not in the log. */
  readonly isShared: boolean
  readonly #id: (sequence: number) => string
  readonly #fanOut: FanOut
  /** Who is still to be written to in this round. */
  #round: Iterator<Reader> | undefined
  /** Bytes appended since the round began. */
  #unwritten = 0
  #shared: Map<number, Chunk> | undefined

  constructor({ filters, shared, format, limits, fanOut, counters, floor, id }: ChannelOptions) {
    this.filters = filters
    this.format = format
    this.counters = counters
    this.floor = floor
    this.#fanOut = fanOut
    this.#id = id
    this.log = new Log(limits, floor)
    this.isShared = shared
  }

  /** Readers get it with all else that has come until their turn, in one write; in several where it is much. */
  append(frame: Frame): void {
    this.log.append(frame)
    if (this.readers.size === 0) return
    this.#unwritten += frame.bytes.length
    // A turn may bring more than the log holds: readers that wait for theirs would be overtaken, however fast they read.
    if (this.#unwritten >= CHUNK_BYTES) {
      this.#round = undefined
      this.write(Infinity)
    } else this.#fanOut.add(this)
  }

  get isBehind(): boolean {
    return this.#unwritten > 0 || this.#round !== undefined
  }

  write(most: number): number {
    if (!this.isBehind) return 0
    if (this.#round === undefined) {
      this.#round = this.readers.values()
      this.#unwritten = 0
    }
    this.#shared = new Map()
    let written = 0
    for (; written < most; written += 1) {
      const { value: reader, done } = this.#round.next()
      if (done) {
        this.#round = undefined
        break
      }
      follow(this, reader)
    }
    this.#shared = undefined
    return written
  }

  /** An event that every reader gets, in order with the messages where those go to every reader too. */
  broadcast(event: EventName, frame: Frame): void {
    if (event === 'gap') this.gaps += 1
    if (!this.isShared) return this.append(frame)
    for (const reader of this.readers) reader.announce(event, frame.bytes)
  }

  /** Writes to a reader what there is for it in the log. */
  advance(reader: Reader): void {
    follow(this, reader)
  }

  /** As `Log.read`; all readers of a turn that stand at the same position share one buffer. */
  read(position: number, maxBytes: number): Chunk {
    if (this.#shared === undefined) return this.log.read(position, maxBytes)
    let chunk = this.#shared.get(position)
    if (chunk === undefined) this.#shared.set(position, (chunk = this.log.read(position, maxBytes)))
    return chunk
  }

  /** A gap event for one reader, just before the oldest event there is: resuming from its id does not announce it again. */
  gap(reason: GapReason, dropped?: number): Buffer {
    this.counters.gap(reason, dropped ?? 0)
    return this.encode(
      'gap',
      this.log.overwritten,
      JSON.stringify({ reason, ...(dropped !== undefined && { dropped }) }),
    )
  }

  encode(event: EventName, sequence: number | undefined, data: string): Buffer {
    return this.format.event(event, sequence === undefined ? undefined : this.#id(sequence), data)
  }

  /** Makes a reader continue behind this sequence, should it come back before it got anything else. */
  bookmark(sequence: number): Buffer {
    return this.format.bookmark(this.#id(sequence))
  }
}
