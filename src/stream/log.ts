import type { Held, MemoryShare } from '../memory/account.ts'
import type { Expiry } from './expiry.ts'

/** One event as it goes over the wire. A message that goes to several logs is one frame in all of them. */
export interface Frame {
  /** Number of the event among all events of its epoch; its id is made of it. */
  sequence: number
  bytes: Buffer
  /** Topic of the message, if it is one. */
  topic?: string | undefined
  /** When the message expires, if it does. */
  expiry?: Expiry | undefined
  /** How many logs hold it. */
  holders?: number
  /** The log whose caller its memory is counted for: one of those that hold it, or held it. */
  payer?: Log | undefined
}

/** Frames joined into one buffer. */
export interface Chunk {
  bytes: Buffer
  /** Position after the last of its frames. */
  end: number
  /** Its frames, without those of expired messages. */
  events: number
  /** How many readers wait until their socket has taken it. */
  waiting?: number
  /** Where its memory is counted meanwhile. */
  payer?: Held | undefined
}

export interface LogLimits {
  bytes: number
  messages: number
}

/** Roughly what a frame takes in memory besides its bytes: two objects and the topic. */
const FRAME_OVERHEAD = 256
/** What its place in one log takes. */
const SLOT_BYTES = 8
const SLOTS_MIN = 16

/**
 * A bounded list of frames that overwrites the oldest ones. A position is the number of frames appended before: it
 * stays the same when older frames are overwritten.
 */
export class Log {
  readonly #limits: LogLimits
  #held: Held | undefined
  /** A ring: the frame at a position has the slot at this position modulo the length, which is a power of two. */
  #slots: (Frame | undefined)[] = []
  #start = 0
  #end = 0
  #bytes = 0
  #overwrittenUpTo: number
  #pinned = Infinity

  /**
   * @param baseSequence sequence of the last event before this log began
   * @param held where the memory of its frames is counted; nowhere without it
   */
  constructor(limits: LogLimits, baseSequence: number, held?: Held) {
    this.#limits = limits
    this.#overwrittenUpTo = baseSequence
    this.#held = held
  }

  /** Position of the oldest frame. */
  get start(): number {
    return this.#start
  }

  /** Position of the next frame to be appended. */
  get end(): number {
    return this.#end
  }

  get bytes(): number {
    return this.#bytes
  }

  /** What is counted for its caller. */
  get heldBytes(): number {
    return this.#held?.bytes ?? 0
  }

  /**
   * How much of what the log may hold comes at this position and behind it, from 0 to 1. At 1 the next message
   * overwrites the frame at this position, or it is overwritten already.
   */
  partFrom(position: number): number {
    if (position >= this.#end) return 0
    if (position < this.#start) return 1
    const { bytes, messages } = this.#limits
    const count = this.#end - position
    // As if all frames had the same length: to add them up would take as long as the log is.
    return Math.min(1, Math.max(count / messages, (this.#bytes * count) / (this.#end - this.#start) / bytes))
  }

  /** Frames with this sequence or a lower one were overwritten. Whoever resumes from a lower one has missed some. */
  get overwrittenUpTo(): number {
    return this.#overwrittenUpTo
  }

  /** To be followed by `pay` of one of the logs that the frame was appended to. */
  append(frame: Frame): void {
    const { bytes, messages } = this.#limits
    while (this.#end - this.#start >= messages && this.#start < this.#pinned) this.#dropOldest()
    if (this.#end - this.#start === this.#slots.length) this.#resize(Math.max(SLOTS_MIN, this.#slots.length * 2))
    frame.holders = (frame.holders ?? 0) + 1
    this.#slots[this.#end & (this.#slots.length - 1)] = frame
    this.#end += 1
    this.#bytes += frame.bytes.length
    while (this.#bytes > bytes && this.#start < this.#pinned) this.#dropOldest()
  }

  /**
   * Counts the memory of a frame of this log, until no log holds it.
   * @returns false where there is no room for it, and it is not counted
   */
  pay(frame: Frame): boolean {
    if (frame.holders === 0) return true
    if (this.#held?.grow(costOf(frame)) === false) return false
    frame.payer = this
    return true
  }

  /** As `pay`, whatever the limits. */
  payAnyway(frame: Frame): void {
    if (frame.holders === 0) return
    this.#held?.growAnyway(costOf(frame))
    frame.payer = this
  }

  /** Counts what this log pays for somewhere else from now on. */
  payFrom(held: Held): void {
    if (this.#held === undefined) return
    held.growAnyway(this.#held.bytes)
    this.#held.release()
    this.#held = held
  }

  /** Counts here those frames of this log that a caller still pays for though its own log has overwritten them. */
  takeOver(caller: MemoryShare): void {
    if (this.#held === undefined) return
    for (let position = this.#start; position < this.#end; position += 1) {
      const frame = this.#at(position)
      const { payer } = frame
      if (payer === undefined || payer === this || frame.sequence > payer.#overwrittenUpTo) continue
      if (payer.#held?.share.name !== caller.name) continue
      payer.#held.shrink(costOf(frame))
      this.payAnyway(frame)
    }
  }

  /** Keeps the frames from this position on, even beyond the limits. */
  pin(position: number): void {
    this.#pinned = position
  }

  /**
   * Overwrites the oldest frames until so many bytes are gone, or all frames that may go. Returns the bytes.
   * @param end frames from this position on stay
   */
  shrink(bytes: number, end = this.#end): number {
    const before = this.#bytes
    const last = Math.min(end, this.#pinned)
    while (before - this.#bytes < bytes && this.#start < last) this.#dropOldest()
    if (this.#start === this.#end) this.#resize(0)
    return before - this.#bytes
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

  /** Positions of the newest frame of each topic, and of each frame without a topic, in ascending order. */
  newestOfTopics(): number[] {
    const topics = new Set<string>()
    const positions: number[] = []
    for (let position = this.#end - 1; position >= this.#start; position -= 1) {
      const { topic } = this.#at(position)
      if (topic !== undefined && topics.has(topic)) continue
      if (topic !== undefined) topics.add(topic)
      positions.push(position)
    }
    return positions.reverse()
  }

  /** One frame as it is to be written now; undefined for a message that has expired. */
  readOne(position: number): Buffer | undefined {
    const { bytes, expiry } = this.#at(position)
    return expiry === undefined ? bytes : expiry.current(bytes)
  }

  /**
   * The frames from a position on: as many as fit in `maxBytes`, but at least one. Messages that have expired are left
   * out; those that will expire say how many seconds are left.
   */
  read(position: number, maxBytes: number): Chunk {
    const parts: Buffer[] = []
    let end = position
    let length = 0
    for (; end < this.#end; end += 1) {
      const bytes = this.readOne(end)
      if (bytes === undefined) continue
      if (parts.length > 0 && length + bytes.length > maxBytes) break
      parts.push(bytes)
      length += bytes.length
    }
    return { bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts, length), end, events: parts.length }
  }

  #at(position: number): Frame {
    return this.#slots[position & (this.#slots.length - 1)]!
  }

  #dropOldest(): void {
    const frame = this.#at(this.#start)
    this.#slots[this.#start & (this.#slots.length - 1)] = undefined
    this.#start += 1
    this.#bytes -= frame.bytes.length
    this.#overwrittenUpTo = frame.sequence
    this.#letGo(frame)
  }

  #letGo(frame: Frame): void {
    frame.holders! -= 1
    if (frame.holders! > 0 || frame.payer === undefined) return
    const { payer } = frame
    payer.#held?.shrink(costOf(frame))
    frame.payer = undefined
  }

  /** @param length a power of two, or 0 for an empty log */
  #resize(length: number): void {
    const slots = Array.from<Frame | undefined>({ length })
    for (let position = this.#start; position < this.#end; position += 1) {
      slots[position & (length - 1)] = this.#at(position)
    }
    const bytes = (length - this.#slots.length) * SLOT_BYTES
    if (bytes > 0) this.#held?.growAnyway(bytes)
    else this.#held?.shrink(-bytes)
    this.#slots = slots
  }
}

/** What a frame takes in memory, besides its place in each log. */
function costOf({ bytes }: Frame): number {
  return FRAME_OVERHEAD + bytes.length
}
