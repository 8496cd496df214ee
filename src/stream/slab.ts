import type { Expiry } from './expiry.ts'
import type { Log } from './log.ts'

/** One event as it goes over the wire. */
export interface Frame {
  /** Number of the event among all events of its epoch; its id is made of it. */
  sequence: number
  bytes: Buffer
  /** Topic of the message, if it is one. */
  topic?: string | undefined
  /** When the message expires, if it does. */
  expiry?: Expiry | undefined
}

/** A frame and where its bytes are kept. A message that goes to several logs is stored once for all of them. */
export interface StoredFrame {
  frame: Frame
  slab: Slab
  /** Where in the slab its bytes begin. */
  start: number
}

/** How many bytes a slab for many frames has. */
export const SLAB_BYTES = 8192
/** How many pieces of memory are kept for the next slabs. A log that is full gives one up and takes one by turns. */
const KEPT_MAX = 32
/** Roughly what a slab takes in memory besides its bytes: three objects. */
const SLAB_OVERHEAD = 384
/** What the text of a topic takes besides its characters. */
const TOPIC_OVERHEAD = 24
/** What an expiry takes. */
const EXPIRY_BYTES = 192
const NOTHING = Buffer.alloc(0)

/**
 * The memory of slabs that nobody needs any more, for the next ones. As garbage, it would make the garbage collector
 * look through all that is alive every two seconds, at 20,000 messages a second.
 */
export class SlabPool {
  readonly #free: Buffer[] = []

  /** `SLAB_BYTES` with anything in them. */
  take(): Buffer {
    // Not from the memory that Node shares among small buffers: a part of it keeps all of it alive.
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES)
  }

  /** @param bytes of `SLAB_BYTES`, to which nobody has a reference */
  give(bytes: Buffer): void {
    if (this.#free.length < KEPT_MAX) this.#free.push(bytes)
  }
}

/**
 * One piece of memory for the bytes of several frames. With three objects for each frame, full logs had most objects of
 * the process, and the garbage collector took more than 100 ms of processor time to look through them.
 */
export class Slab {
  #bytes: Buffer
  readonly #pool: SlabPool | undefined
  /** Of frames that expire, by where they begin. */
  #expiries: Map<number, Expiry> | undefined
  #used = 0
  #cost: number
  #newest = 0
  /** Of the latest frame that has one. */
  #topic: string | undefined
  /** How many places in logs its frames have, and how many frames are stored, but not paid for yet. */
  uses = 0
  /** The log whose caller its memory is counted for: one of those that hold its frames, or held them. */
  payer: Log | undefined
  /** What is counted there. */
  paidBytes = 0

  /**
   * @param bytes to be filled with frames; of a frame that is to have a slab of its own, the frame
   * @param pool where they come from and go to, if they do
   */
  constructor(bytes: Buffer, pool?: SlabPool) {
    this.#bytes = bytes
    this.#pool = pool
    this.#cost = SLAB_OVERHEAD + bytes.length
  }

  /** How many bytes fit in it. */
  get size(): number {
    return this.#bytes.length
  }

  /** What it takes in memory. Frames that are stored may add to it. */
  get cost(): number {
    return this.#cost
  }

  /** Sequence of its newest frame. */
  get newest(): number {
    return this.#newest
  }

  hasRoomFor({ bytes }: Frame): boolean {
    return this.#used + bytes.length <= this.#bytes.length
  }

  /** To be called only where it has room for the frame. It is in use until `letGo`. */
  store(frame: Frame): StoredFrame {
    const { sequence, bytes, topic, expiry } = frame
    const start = this.#used
    if (bytes !== this.#bytes) this.#bytes.set(bytes, start)
    this.#used += bytes.length
    this.#newest = sequence
    this.uses += 1
    if (topic !== undefined && topic !== this.#topic) {
      this.#topic = topic
      this.#cost += TOPIC_OVERHEAD + topic.length
    }
    if (expiry !== undefined) {
      this.#expiries ??= new Map()
      this.#expiries.set(start, expiry)
      this.#cost += EXPIRY_BYTES
    }
    return { frame, slab: this, start }
  }

  /** Ends one use. After the last one it has no bytes and no room any more. */
  letGo(): void {
    this.uses -= 1
    if (this.uses > 0) return
    this.payer?.stopPaying(this)
    this.#pool?.give(this.#bytes)
    this.#bytes = NOTHING
  }

  /** A part of its bytes. They stay as they are whatever becomes of the slab. */
  read(start: number, end: number): Buffer {
    const bytes = this.#bytes.subarray(start, end)
    if (this.#pool === undefined) return bytes
    const copy = Buffer.allocUnsafe(bytes.length)
    copy.set(bytes)
    return copy
  }

  expiryOf(start: number): Expiry | undefined {
    return this.#expiries?.get(start)
  }
}
