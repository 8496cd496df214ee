export interface WindowLimits {
  messages: number
  bytes: number
}

interface Item<Message> {
  message: Message
  bytes: number
  sequence: number
  position: number
}

/** Where a message went. */
export interface Place {
  sequence: number
  /** In the log. */
  position: number
}

/** What a message costs beside its payload, roughly. */
const OVERHEAD_BYTES = 256

/**
 * What a reader may have without being done with it, and behind it what waits for room there: of that no more than the
 * limit in bytes either, or it is overfull.
 */
export class Window<Message extends { topic: string; payload: Buffer }> {
  readonly #limits: WindowLimits
  readonly #admit: (message: Message) => Place
  #admitted: Item<Message>[] = []
  #admittedBytes = 0
  #waiting: Message[] = []
  #waitingBytes = 0

  /** @param admit hands a message to the reader */
  constructor(limits: WindowLimits, admit: (message: Message) => Place) {
    this.#limits = limits
    this.#admit = admit
  }

  get size(): number {
    return this.#admitted.length
  }

  /** Position of the oldest message the reader is not done with. */
  get first(): number | undefined {
    return this.#admitted[0]?.position
  }

  get isOverfull(): boolean {
    return this.#waitingBytes > this.#limits.bytes
  }

  /** Half of it is free. */
  get hasRoom(): boolean {
    return (
      this.#waiting.length === 0 &&
      this.#admitted.length <= this.#limits.messages / 2 &&
      this.#admittedBytes <= this.#limits.bytes / 2
    )
  }

  push(message: Message): void {
    this.#waiting.push(message)
    this.#waitingBytes += sizeOf(message)
    this.#fill()
  }

  /** Done with the oldest for as long as this says so. Returns them. */
  takeWhile(isDone: (place: Place) => boolean): Message[] {
    let count = 0
    while (count < this.#admitted.length && isDone(this.#admitted[count]!)) count += 1
    if (count === 0) return []
    const done = this.#admitted.splice(0, count)
    for (const { bytes } of done) this.#admittedBytes -= bytes
    this.#fill()
    return done.map(({ message }) => message)
  }

  dropWaiting(): Message[] {
    this.#waitingBytes = 0
    return this.#waiting.splice(0)
  }

  #fill(): void {
    let count = 0
    for (; count < this.#waiting.length && this.#admitted.length < this.#limits.messages; count += 1) {
      const message = this.#waiting[count]!
      const bytes = sizeOf(message)
      // One goes in whatever its size.
      if (this.#admitted.length > 0 && this.#admittedBytes + bytes > this.#limits.bytes) break
      this.#waitingBytes -= bytes
      this.#admittedBytes += bytes
      this.#admitted.push({ message, bytes, ...this.#admit(message) })
    }
    if (count > 0) this.#waiting.splice(0, count)
  }
}

function sizeOf({ topic, payload }: { topic: string; payload: Buffer }): number {
  return topic.length + payload.length + OVERHEAD_BYTES
}
