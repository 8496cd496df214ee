import type { Held } from '../../memory/account.ts'

export interface WindowLimits {
  messages: number
  bytes: number
}

export interface WindowOptions<Message> extends WindowLimits {
  /** Bytes that a message takes in memory. */
  sizeOf(message: Message): number
  /** Pays for the messages. */
  held: Held
}

/** The event that a message became. */
export interface LoggedEvent {
  sequence: number
  /** Its position in the log. */
  position: number
}

interface UnacknowledgedMessage<Message, Event> {
  message: Message
  event: Event
  bytes: number
}

/**
 * The messages of a session that are with its reader unacknowledged, within limits, and behind them those that wait
 * until there is room. What waits is limited too: beyond the limit in bytes the window is overfull.
 */
export class Window<Message, Event extends LoggedEvent = LoggedEvent> {
  readonly #options: WindowOptions<Message>
  readonly #append: (message: Message) => Event
  #unacknowledged: UnacknowledgedMessage<Message, Event>[] = []
  #unacknowledgedBytes = 0
  #waiting: Message[] = []
  #waitingBytes = 0

  /** @param append makes a message an event for the reader */
  constructor(options: WindowOptions<Message>, append: (message: Message) => Event) {
    this.#options = options
    this.#append = append
  }

  /** Number of unacknowledged messages. */
  get size(): number {
    return this.#unacknowledged.length
  }

  /** Number of messages that wait for room. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Log position of the oldest unacknowledged message. */
  get oldestPosition(): number | undefined {
    return this.#unacknowledged[0]?.event.position
  }

  /** More waits than the limit allows, or than the caller may hold at all. */
  get isOverfull(): boolean {
    return this.#waitingBytes > this.#options.bytes || this.isOverShare
  }

  /** Some wait, and the caller holds more memory than it may. */
  get isOverShare(): boolean {
    return this.#waiting.length > 0 && this.#options.held.isOverShare
  }

  /** Whether nothing waits and half of the window is free. */
  get isHalfEmpty(): boolean {
    return (
      this.#waiting.length === 0 &&
      this.#unacknowledged.length <= this.#options.messages / 2 &&
      this.#unacknowledgedBytes <= this.#options.bytes / 2
    )
  }

  push(message: Message): void {
    this.#waiting.push(message)
    const bytes = this.#options.sizeOf(message)
    this.#waitingBytes += bytes
    // It is there already: where there is no room for it, the window is overfull and gives it back to the broker.
    this.#options.held.growAnyway(bytes)
    this.#fill()
  }

  /** Removes the oldest unacknowledged messages for as long as `isAcknowledged` says so, and returns them. */
  acknowledgeWhile(isAcknowledged: (event: Event) => boolean): Message[] {
    let count = 0
    while (count < this.#unacknowledged.length && isAcknowledged(this.#unacknowledged[count]!.event)) count += 1
    if (count === 0) return []
    const acknowledged = this.#unacknowledged.splice(0, count)
    for (const { bytes } of acknowledged) {
      this.#unacknowledgedBytes -= bytes
      this.#options.held.shrink(bytes)
    }
    this.#fill()
    return acknowledged.map(({ message }) => message)
  }

  /** Removes the latest of the messages that wait, until the others are within the limits, and returns them. */
  dropExcess(): Message[] {
    let kept = this.#waiting.length
    while (this.isOverfull && kept > 0) {
      kept -= 1
      this.#stopWaiting(this.#waiting[kept]!)
    }
    return this.#waiting.splice(kept)
  }

  /** Removes the messages that wait for room, and returns them. */
  dropWaiting(): Message[] {
    for (const message of this.#waiting) this.#stopWaiting(message)
    return this.#waiting.splice(0)
  }

  /** Gives its memory back. Nothing may be pushed after that. */
  release(): void {
    this.#options.held.release()
  }

  #stopWaiting(message: Message): void {
    const bytes = this.#options.sizeOf(message)
    this.#waitingBytes -= bytes
    this.#options.held.shrink(bytes)
  }

  #fill(): void {
    let count = 0
    for (; count < this.#waiting.length && this.#unacknowledged.length < this.#options.messages; count += 1) {
      const message = this.#waiting[count]!
      const bytes = this.#options.sizeOf(message)
      // An empty window takes one message of any size: otherwise a large one would never be delivered.
      if (this.#unacknowledged.length > 0 && this.#unacknowledgedBytes + bytes > this.#options.bytes) break
      this.#waitingBytes -= bytes
      this.#unacknowledgedBytes += bytes
      this.#unacknowledged.push({ message, bytes, event: this.#append(message) })
    }
    if (count > 0) this.#waiting.splice(0, count)
  }
}
