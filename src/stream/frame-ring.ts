import type { Slab, StoredFrame } from './slab.ts'

/** What is known of a frame in numbers: its sequence, and where in its slab it begins and ends. */
const NUMBERS = 3
/** What a frame takes in a ring: two references and these numbers. */
const FRAME_BYTES = 8 * (2 + NUMBERS)

/**
 * Where the frames of a log are. The frame at a position has the slot at this position modulo the length, which is a
 * power of two. There is no object for each frame, which the garbage collector would have to visit.
 */
export class FrameRing {
  readonly length: number
  readonly #slabs: (Slab | undefined)[]
  readonly #topics: (string | undefined)[]
  readonly #numbers: Float64Array

  /** @param length a power of two, or 0 */
  constructor(length: number) {
    this.length = length
    this.#slabs = Array.from({ length })
    this.#topics = Array.from({ length })
    this.#numbers = new Float64Array(length * NUMBERS)
  }

  /** What it takes in memory. */
  get bytes(): number {
    return this.length * FRAME_BYTES
  }

  put(position: number, { frame, slab, start }: StoredFrame): void {
    this.#put(position, slab, frame.topic, frame.sequence, start, start + frame.bytes.length)
  }

  /** Takes the frame at a position of another ring. */
  putFrom(other: FrameRing, position: number): void {
    const [slab, topic, sequence] = [other.slabAt(position), other.topicAt(position), other.sequenceAt(position)]
    this.#put(position, slab, topic, sequence, other.startAt(position), other.endAt(position))
  }

  clear(position: number): void {
    const slot = this.#slotOf(position)
    this.#slabs[slot] = undefined
    this.#topics[slot] = undefined
  }

  slabAt(position: number): Slab {
    return this.#slabs[this.#slotOf(position)]!
  }

  topicAt(position: number): string | undefined {
    return this.#topics[this.#slotOf(position)]
  }

  sequenceAt(position: number): number {
    return this.#numbers[this.#slotOf(position) * NUMBERS]!
  }

  /** Where in its slab the frame begins. */
  startAt(position: number): number {
    return this.#numbers[this.#slotOf(position) * NUMBERS + 1]!
  }

  /** Where in its slab the frame ends. */
  endAt(position: number): number {
    return this.#numbers[this.#slotOf(position) * NUMBERS + 2]!
  }

  #slotOf(position: number): number {
    return position & (this.length - 1)
  }

  #put(position: number, slab: Slab, topic: string | undefined, sequence: number, start: number, end: number): void {
    const slot = this.#slotOf(position)
    const numbers = slot * NUMBERS
    this.#slabs[slot] = slab
    this.#topics[slot] = topic
    this.#numbers[numbers] = sequence
    this.#numbers[numbers + 1] = start
    this.#numbers[numbers + 2] = end
  }
}
