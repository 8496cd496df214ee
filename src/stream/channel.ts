import type { EventName, Format } from './format.ts'
import { type Frame, Log, type LogLimits } from './log.ts'
import type { Reader } from './reader.ts'

/** Why messages are missing. */
export type GapReason = 'unknown-id' | 'overrun' | 'broker-session-lost' | 'broker-connection-lost'

export interface StreamCounters {
  wrote(events: number, bytes: number): void
  gap(reason: GapReason, dropped: number): void
}

export interface ChannelOptions {
  filters: readonly string[]
  format: Format
  limits: LogLimits
  counters: StreamCounters
  /** Sequence of the last event before this channel. */
  floor: number
  /** The event id of a sequence. */
  id: (sequence: number) => string
}

/** One set of filters in one format: a log of encoded events and the readers that follow it. */
export class Channel {
  readonly filters: readonly string[]
  readonly log: Log
  readonly readers = new Set<Reader>()
  readonly counters: StreamCounters
  readonly floor: number
  readonly #format: Format
  readonly #id: (sequence: number) => string
  #scheduled = false
  #shared: Map<number, ReturnType<Log['read']>> | undefined

  constructor({ filters, format, limits, counters, floor, id }: ChannelOptions) {
    this.filters = filters
    this.#format = format
    this.counters = counters
    this.floor = floor
    this.#id = id
    this.log = new Log(limits, floor)
  }

  get format(): Format {
    return this.#format
  }

  /** Readers get it with all else of this turn of the loop, in one write. */
  append(frame: Frame): void {
    this.log.append(frame)
    if (this.#scheduled || this.readers.size === 0) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  /** As `Log.read`; all readers that stand at the same position when a turn is flushed share one buffer. */
  read(position: number, maxBytes: number): ReturnType<Log['read']> {
    if (this.#shared === undefined) return this.log.read(position, maxBytes)
    let joined = this.#shared.get(position)
    if (joined === undefined) this.#shared.set(position, (joined = this.log.read(position, maxBytes)))
    return joined
  }

  /** A gap event for one reader, just before the oldest event there is: resuming from its id does not announce it again. */
  gap(reason: GapReason, dropped?: number): Buffer {
    this.counters.gap(reason, dropped ?? 0)
    const data = JSON.stringify({ reason, ...(dropped !== undefined && { dropped }) })
    return this.#format.event('gap', this.#id(this.log.overwritten), data)
  }

  encode(event: EventName, sequence: number, data: string): Buffer {
    return this.#format.event(event, this.#id(sequence), data)
  }

  #flush(): void {
    this.#scheduled = false
    this.#shared = new Map()
    for (const reader of this.readers) reader.advance()
    this.#shared = undefined
  }
}
