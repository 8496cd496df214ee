/** One event as it goes over the wire. */
export interface Frame {
  /** Number of the event among all events of its epoch; its id is made of it. */
  sequence: number
  bytes: Buffer
  /** Topic of the message, if it is one. */
  topic?: string
}

/** Frames joined into one buffer. */
export interface Chunk {
  bytes: Buffer
  /** Position after the last of its frames. */
  end: number
}

export interface LogLimits {
  bytes: number
  messages: number
}

/**
 * A bounded list of frames that overwrites the oldest ones. A position is the number of frames appended before: it
 * stays the same when older frames are overwritten.
 */
export class Log {
  readonly #limits: LogLimits
  #frames: Frame[] = []
  /** Overwritten frames at the front of the array that are not cut off yet. */
  #overwrittenSlots = 0
  #start = 0
  #bytes = 0
  #overwrittenUpTo: number
  #pinned = Infinity
  /** Position of the newest frame of each topic. */
  readonly #newest = new Map<string, number>()

  /** @param baseSequence sequence of the last event before this log began */
  constructor(limits: LogLimits, baseSequence: number) {
    this.#limits = limits
    this.#overwrittenUpTo = baseSequence
  }

  /** Position of the oldest frame. */
  get start(): number {
    return this.#start
  }

  /** Position of the next frame to be appended. */
  get end(): number {
    return this.#start + this.#frames.length - this.#overwrittenSlots
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Frames with this sequence or a lower one were overwritten. Whoever resumes from a lower one has missed some. */
  get overwrittenUpTo(): number {
    return this.#overwrittenUpTo
  }

  append(frame: Frame): void {
    if (frame.topic !== undefined) this.#newest.set(frame.topic, this.end)
    this.#frames.push(frame)
    this.#bytes += frame.bytes.length
    while (
      this.#start < this.#pinned &&
      (this.#bytes > this.#limits.bytes || this.end - this.#start > this.#limits.messages)
    ) {
      this.#dropOldest()
    }
  }

  /** Keeps the frames from this position on, even beyond the limits. */
  pin(position: number): void {
    this.#pinned = position
  }

  /** Position of the first frame after a sequence. */
  positionAfter(sequence: number): number {
    let low = this.#start
    let high = this.end
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#at(middle).sequence <= sequence) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Whether there is a newer frame of the same topic. */
  isOutdated(position: number): boolean {
    const { topic } = this.#at(position)
    return topic !== undefined && this.#newest.get(topic) !== position
  }

  /** The frames from a position on: as many as fit in `maxBytes`, but at least one. */
  read(position: number, maxBytes: number): Chunk {
    let end = position
    let length = 0
    for (; end < this.end; end += 1) {
      const { bytes } = this.#at(end)
      if (end > position && length + bytes.length > maxBytes) break
      length += bytes.length
    }
    if (end === position + 1) return { bytes: this.#at(position).bytes, end }
    const offset = this.#overwrittenSlots - this.#start
    const frames = this.#frames.slice(offset + position, offset + end)
    return {
      bytes: Buffer.concat(
        frames.map(({ bytes }) => bytes),
        length,
      ),
      end,
    }
  }

  #at(position: number): Frame {
    return this.#frames[this.#overwrittenSlots + position - this.#start]!
  }

  #dropOldest(): void {
    const { bytes, sequence, topic } = this.#at(this.#start)
    if (topic !== undefined && this.#newest.get(topic) === this.#start) this.#newest.delete(topic)
    // Frees the frame's memory at once; its slot in the array goes later.
    this.#frames[this.#overwrittenSlots] = EMPTY
    this.#overwrittenSlots += 1
    this.#start += 1
    this.#bytes -= bytes.length
    this.#overwrittenUpTo = sequence
    // Cutting off half of the array at a time costs each append a constant time on average.
    if (this.#overwrittenSlots * 2 < this.#frames.length) return
    this.#frames = this.#frames.slice(this.#overwrittenSlots)
    this.#overwrittenSlots = 0
  }
}

const EMPTY: Frame = { sequence: 0, bytes: Buffer.alloc(0) }
