import type { Held, MemoryShare } from '../memory/account.ts'
import { ownBytes } from '../memory/own-bytes.ts'
import { FrameRing } from './frame-ring.ts'
import { type Frame, Slab, SLAB_BYTES, SlabPool, type StoredFrame } from './slab.ts'

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

/** Places in the shortest ring of a log that is not empty. */
const SLOTS_MIN = 16
/** Largest part of what a log pays for that one slab takes. */
const SLAB_PART = 1 / 4

/**
 * A bounded list of frames that overwrites the oldest ones. A position is the number of frames appended before: it
 * stays the same when older frames are overwritten.
 */
export class Log {
  readonly #limits: LogLimits
  readonly #slabs: SlabPool
  #held: Held | undefined
  #frames = new FrameRing(0)
  /** Where the next frame is stored if it has room. */
  #open: Slab | undefined
  /** What the slabs take that it pays for. */
  #paidBytes = 0
  #start = 0
  #end = 0
  #bytes = 0
  #overwrittenUpTo: number
  #pinned = Infinity

  /**
   * @param baseSequence sequence of the last event before this log began
   * @param held where the memory of its frames is counted; nowhere without it
   * @param slabs where its slabs come from; logs that share frames have the same pool
   */
  constructor(limits: LogLimits, baseSequence: number, held?: Held, slabs = new SlabPool()) {
    this.#limits = limits
    this.#slabs = slabs
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

  /** Stores a frame that is to be appended to this log or to others. To be followed by one `pay`, or `payAnyway`. */
  store(frame: Frame): StoredFrame {
    if (this.#open?.hasRoomFor(frame)) return this.#open.store(frame)
    const { length } = frame.bytes
    if (length >= SLAB_BYTES / 2) {
      const bytes = ownBytes(frame.bytes)
      return new Slab(bytes).store({ ...frame, bytes })
    }
    // A short log takes little memory, and each of its slabs is a small part of it.
    const size = Math.max(length, Math.floor(this.#paidBytes * SLAB_PART))
    this.#open = size < SLAB_BYTES ? new Slab(Buffer.allocUnsafeSlow(size)) : new Slab(this.#slabs.take(), this.#slabs)
    return this.#open.store(frame)
  }

  append(stored: StoredFrame): void {
    const { bytes, messages } = this.#limits
    const { frame, slab } = stored
    while (this.#end - this.#start >= messages && this.#start < this.#pinned) this.#dropOldest()
    if (this.#end - this.#start === this.#frames.length) this.#resize(Math.max(SLOTS_MIN, this.#frames.length * 2))
    this.#frames.put(this.#end, stored)
    slab.uses += 1
    this.#end += 1
    this.#bytes += frame.bytes.length
    while (this.#bytes > bytes && this.#start < this.#pinned) this.#dropOldest()
  }

  /**
   * Counts the memory of a slab in which this log has stored a frame, until no log holds any frame of it.
   * @returns false where there is no room for it, and it is not counted
   */
  pay(slab: Slab): boolean {
    const due = slab.cost - slab.paidBytes
    // Where this is the only use left, the frame is overwritten already.
    if (slab.uses > 1 && due > 0) {
      if (this.#held?.grow(due) === false) return false
      // To make room, another log may have taken the slab over.
      if (slab.paidBytes === slab.cost) this.#held?.shrink(due)
      else this.#notePaid(slab)
    }
    slab.letGo()
    return true
  }

  /** As `pay`, whatever the limits. */
  payAnyway(slab: Slab): void {
    if (slab.uses > 1) this.#payFor(slab)
    slab.letGo()
  }

  /** For slabs alone: another log pays for this one from now on, or nobody holds it. */
  stopPaying(slab: Slab): void {
    this.#held?.shrink(slab.paidBytes)
    this.#paidBytes -= slab.paidBytes
    slab.payer = undefined
    slab.paidBytes = 0
    if (this.#open === slab) this.#open = undefined
  }

  /** Counts what this log pays for somewhere else from now on. */
  payFrom(held: Held): void {
    if (this.#held === undefined) return
    held.growAnyway(this.#held.bytes)
    this.#held.release()
    this.#held = held
  }

  /**
   * Counts here what this log holds of slabs that a caller pays for, and whose own log has overwritten them. Of a slab
   * of which it holds little, it copies that: one frame of a quiet log would keep the slab of a busy one.
   */
  takeOver(caller: MemoryShare): void {
    if (this.#held === undefined) return
    const frames = this.#frames
    /** How many bytes this log holds of each of these slabs. */
    const left = new Map<Slab, number>()
    for (let position = this.#start; position < this.#end; position += 1) {
      const slab = frames.slabAt(position)
      const { payer } = slab
      if (payer === undefined || payer === this || slab.newest > payer.#overwrittenUpTo) continue
      if (payer.#held?.share.name !== caller.name) continue
      left.set(slab, (left.get(slab) ?? 0) + this.#lengthAt(position))
    }
    // The copies have slabs of their own, as they are overwritten earlier than what is stored otherwise.
    this.#open = undefined
    for (let position = this.#start; position < this.#end; position += 1) {
      const slab = frames.slabAt(position)
      const bytes = left.get(slab)
      if (bytes === undefined || slab.payer === this) continue
      if (bytes * 2 > slab.size) {
        slab.payer!.stopPaying(slab)
        this.#payFor(slab)
      } else this.#copy(position)
    }
    this.#open = undefined
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
      if (this.#frames.sequenceAt(middle) <= sequence) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Positions of the newest frame of each topic, and of each frame without a topic, in ascending order. */
  newestOfTopics(): number[] {
    const topics = new Set<string>()
    const positions: number[] = []
    for (let position = this.#end - 1; position >= this.#start; position -= 1) {
      const topic = this.#frames.topicAt(position)
      if (topic !== undefined && topics.has(topic)) continue
      if (topic !== undefined) topics.add(topic)
      positions.push(position)
    }
    return positions.reverse()
  }

  /** One frame as it is to be written now; undefined for a message that has expired. */
  readOne(position: number): Buffer | undefined {
    const slab = this.#frames.slabAt(position)
    const start = this.#frames.startAt(position)
    const bytes = slab.read(start, this.#frames.endAt(position))
    const expiry = slab.expiryOf(start)
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
    let events = 0
    while (end < this.#end) {
      const next = this.#endOfRun(end, maxBytes - length)
      const bytes = next === end + 1 ? this.readOne(end) : this.#bytesOfRun(end, next)
      if (bytes !== undefined) {
        if (events > 0 && length + bytes.length > maxBytes) break
        parts.push(bytes)
        length += bytes.length
        events += next - end
      }
      end = next
    }
    return { bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts, length), end, events }
  }

  /**
   * Position after the frames that lie one behind the other in a slab, do not expire, and have at most so many bytes;
   * at least the one at this position.
   */
  #endOfRun(position: number, maxBytes: number): number {
    const frames = this.#frames
    const slab = frames.slabAt(position)
    const start = frames.startAt(position)
    let end = position + 1
    if (slab.expiryOf(start) !== undefined) return end
    for (; end < this.#end; end += 1) {
      const next = frames.startAt(end)
      if (frames.slabAt(end) !== slab || next !== frames.endAt(end - 1) || slab.expiryOf(next) !== undefined) break
      if (frames.endAt(end) - start > maxBytes) break
    }
    return end
  }

  #bytesOfRun(position: number, end: number): Buffer {
    return this.#frames.slabAt(position).read(this.#frames.startAt(position), this.#frames.endAt(end - 1))
  }

  #lengthAt(position: number): number {
    return this.#frames.endAt(position) - this.#frames.startAt(position)
  }

  #dropOldest(): void {
    const position = this.#start
    const slab = this.#frames.slabAt(position)
    this.#start += 1
    this.#bytes -= this.#lengthAt(position)
    this.#overwrittenUpTo = this.#frames.sequenceAt(position)
    this.#frames.clear(position)
    slab.letGo()
  }

  /** Stores a frame of this log once more. */
  #copy(position: number): void {
    const slab = this.#frames.slabAt(position)
    const start = this.#frames.startAt(position)
    const stored = this.store({
      sequence: this.#frames.sequenceAt(position),
      bytes: slab.read(start, this.#frames.endAt(position)),
      topic: this.#frames.topicAt(position),
      expiry: slab.expiryOf(start),
    })
    this.#frames.put(position, stored)
    stored.slab.uses += 1
    this.payAnyway(stored.slab)
    slab.letGo()
  }

  #payFor(slab: Slab): void {
    this.#held?.growAnyway(slab.cost - slab.paidBytes)
    this.#notePaid(slab)
  }

  #notePaid(slab: Slab): void {
    this.#paidBytes += slab.cost - slab.paidBytes
    slab.payer = this
    slab.paidBytes = slab.cost
  }

  /** @param length a power of two, or 0 for an empty log */
  #resize(length: number): void {
    const frames = new FrameRing(length)
    for (let position = this.#start; position < this.#end; position += 1) frames.putFrom(this.#frames, position)
    const bytes = frames.bytes - this.#frames.bytes
    if (bytes > 0) this.#held?.growAnyway(bytes)
    else this.#held?.shrink(-bytes)
    this.#frames = frames
  }
}
