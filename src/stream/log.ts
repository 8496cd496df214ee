/** One event as it goes over the wire. */
export interface Frame {
  /** Its place among all events of this process; ids are made of it. */
  sequence: number
  bytes: Buffer
  /** Of a message. */
  topic?: string
}

/** Frames joined, and the position behind them. */
export interface Chunk {
  bytes: Buffer
  next: number
}

export interface LogLimits {
  bytes: number
  messages: number
}

/** A bounded run of frames, oldest overwritten. Positions count every frame ever appended, so they never shift. */
export class Log {
  readonly #limits: LogLimits
  #frames: Frame[] = []
  /** Frames at the front of the array that are overwritten and not yet cut off. */
  #gone = 0
  #first = 0
  #bytes = 0
  #overwritten: number
  #pinned = Infinity
  /** Position of the newest frame of each topic. */
  readonly #newest = new Map<string, number>()

  /** @param floor sequence of the last event before this log began */
  constructor(limits: LogLimits, floor: number) {
    this.#limits = limits
    this.#overwritten = floor
  }

  /** Position of the oldest frame there is. */
  get first(): number {
    return this.#first
  }

  /** Position of the next frame to come. */
  get next(): number {
    return this.#first + this.#frames.length - this.#gone
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Sequence up to which events are missing here: nothing at or below it can be told from nothing at all. */
  get overwritten(): number {
    return this.#overwritten
  }

  append(frame: Frame): void {
    if (frame.topic !== undefined) this.#newest.set(frame.topic, this.next)
    this.#frames.push(frame)
    this.#bytes += frame.bytes.length
    while (
      this.#first < this.#pinned &&
      (this.#bytes > this.#limits.bytes || this.next - this.#first > this.#limits.messages)
    ) {
      this.#dropOldest()
    }
  }

  /** Frames from this position on stay, whatever the limits. */
  pin(position: number): void {
    this.#pinned = position
  }

  /** Position of the first frame behind a sequence. */
  positionAfter(sequence: number): number {
    let low = this.#first
    let high = this.next
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#at(middle).sequence <= sequence) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Whether a newer frame of the same topic has made this one out of date. */
  isOutdated(position: number): boolean {
    const { topic } = this.#at(position)
    return topic !== undefined && this.#newest.get(topic) !== position
  }

  /** The frames from a position on, joined: as many as fit in `maxBytes`, and one at least. */
  read(position: number, maxBytes: number): Chunk {
    let end = position
    let length = 0
    for (; end < this.next; end += 1) {
      const { bytes } = this.#at(end)
      if (end > position && length + bytes.length > maxBytes) break
      length += bytes.length
    }
    if (end === position + 1) return { bytes: this.#at(position).bytes, next: end }
    const frames = this.#frames.slice(this.#gone + position - this.#first, this.#gone + end - this.#first)
    return {
      bytes: Buffer.concat(
        frames.map(({ bytes }) => bytes),
        length,
      ),
      next: end,
    }
  }

  #at(position: number): Frame {
    return this.#frames[this.#gone + position - this.#first]!
  }

  #dropOldest(): void {
    const { bytes, sequence, topic } = this.#at(this.#first)
    if (topic !== undefined && this.#newest.get(topic) === this.#first) this.#newest.delete(topic)
    // Overwritten frames must not be kept alive by the slots they leave.
    this.#frames[this.#gone] = EMPTY
    this.#gone += 1
    this.#first += 1
    this.#bytes -= bytes.length
    this.#overwritten = sequence
    // Cutting off in bulk keeps appending cheap.
    if (this.#gone * 2 < this.#frames.length) return
    this.#frames = this.#frames.slice(this.#gone)
    this.#gone = 0
  }
}

const EMPTY: Frame = { sequence: 0, bytes: Buffer.alloc(0) }
