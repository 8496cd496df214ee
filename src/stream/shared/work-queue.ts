import type { Channel } from '../channel.ts'
import type { LogLimits } from '../log.ts'
import type { Reader } from '../reader.ts'

export interface Task<Message> {
  sequence: number
  message: Message
  bytes: number
}

export interface WorkQueueOptions<Message> {
  /** Whose readers take from it; they come and go. */
  channels: ReadonlySet<Channel>
  limits: LogLimits
  encode(channel: Channel, sequence: number, message: Message): Buffer
}

/**
 * The messages of one shared subscription. Each goes to one reader, in turn, whatever the readers' formats, and none to
 * one whose socket is full. While all are full, messages wait here for whoever is ready first; at the limits the oldest
 * are dropped.
 */
export class WorkQueue<Message> {
  readonly #options: WorkQueueOptions<Message>
  #waiting: Task<Message>[] = []
  /** Of those, handed out or dropped and not yet cut off. */
  #gone = 0
  #bytes = 0
  #turn = 0
  #scheduled = false
  #dropped = 0
  #lastDropped = 0
  /** How many of the dropped ones some reader knows of, and each reader. */
  #told = 0
  readonly #knows = new WeakMap<Reader, number>()

  constructor(options: WorkQueueOptions<Message>) {
    this.#options = options
  }

  /** A reader is handed it with all else of this turn of the loop. */
  push(task: Task<Message>): void {
    const { limits } = this.#options
    this.#waiting.push(task)
    this.#bytes += task.bytes
    while (this.#bytes > limits.bytes || this.#waiting.length - this.#gone > limits.messages) {
      this.#lastDropped = this.#take().sequence
      this.#dropped += 1
    }
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.distribute()
    })
  }

  /** A new reader is told only of what was dropped while there was nobody to tell. */
  admit(reader: Reader): void {
    this.#knows.set(reader, this.#told)
  }

  distribute(): void {
    const readers = [...this.#options.channels].flatMap((channel) =>
      [...channel.readers].map((reader) => ({ channel, reader })),
    )
    if (this.#dropped > 0) for (const { channel, reader } of readers) if (reader.isReady) this.#tell(channel, reader)
    while (this.#gone < this.#waiting.length) {
      const next = this.#nextReady(readers)
      if (next === undefined) return
      const { sequence, message } = this.#take()
      next.reader.write(this.#options.encode(next.channel, sequence, message), 1)
    }
  }

  #nextReady<Entry extends { reader: Reader }>(readers: Entry[]): Entry | undefined {
    for (let tried = 0; tried < readers.length; tried += 1) {
      const entry = readers[this.#turn++ % readers.length]!
      if (entry.reader.isReady) return entry
    }
    return undefined
  }

  #tell(channel: Channel, reader: Reader): void {
    const dropped = this.#dropped - (this.#knows.get(reader) ?? 0)
    if (dropped === 0) return
    channel.counters.gap('overrun', this.#dropped - this.#told)
    this.#told = this.#dropped
    this.#knows.set(reader, this.#dropped)
    const gap = channel.encode('gap', this.#lastDropped, JSON.stringify({ reason: 'overrun', dropped }))
    if (reader.slow === 'close') reader.close('slow', gap)
    else reader.write(gap, 1)
  }

  #take(): Task<Message> {
    const task = this.#waiting[this.#gone]!
    this.#gone += 1
    this.#bytes -= task.bytes
    // Cutting off in bulk keeps taking cheap.
    if (this.#gone * 2 >= this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#gone)
      this.#gone = 0
    }
    return task
  }
}
