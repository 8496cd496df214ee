export interface WindowLimits {
  messages: number
  bytes: number
}

/** The event that a message became. */
export interface LoggedEvent {
  sequence: number
  /** Its position in the log. */
  position: number
}

interface UnacknowledgedMessage<Message> extends LoggedEvent {
  message: Message
  bytes: number
}

/** Rough cost of a message in memory besides its topic and payload. */
const OVERHEAD_BYTES = 256

/**
 * The messages of a session that are with its reader unacknowledged, within limits, and behind them those that wait
 * until there is room. What waits is limited too: beyond the limit in bytes the window is overfull.
 */
export class Window<Message extends { topic: string; payload: Buffer }> {
  readonly #limits: WindowLimits
  readonly #append: (message: Message) => LoggedEvent
  #unacknowledged: UnacknowledgedMessage<Message>[] = []
  #unacknowledgedBytes = 0
  #waiting: Message[] = []
  #waitingBytes = 0

  /** @param append makes a message an event for the reader */
  constructor(limits: WindowLimits, append: (message: Message) => LoggedEvent) {
    this.#limits = limits
    this.#append = append
  }

  /** Number of unacknowledged messages. */
  get size(): number {
    return this.#unacknowledged.length
  }

  /** Log position of the oldest unacknowledged message. */
  get oldestPosition(): number | undefined {
    return this.#unacknowledged[0]?.position
  }

  get isOverfull(): boolean {
    return this.#waitingBytes > this.#limits.bytes
  }

  /** Whether nothing waits and half of the window is free. */
  get isHalfEmpty(): boolean {
    return (
      this.#waiting.length === 0 &&
      this.#unacknowledged.length <= this.#limits.messages / 2 &&
      this.#unacknowledgedBytes <= this.#limits.bytes / 2
    )
  }

  push(message: Message): void {
    this.#waiting.push(message)
    this.#waitingBytes += sizeOf(message)
    this.#fill()
  }

  /** Removes the oldest unacknowledged messages for as long as `isAcknowledged` says so, and returns them. */
  acknowledgeWhile(isAcknowledged: (event: LoggedEvent) => boolean): Message[] {
    let count = 0
    while (count < this.#unacknowledged.length && isAcknowledged(this.#unacknowledged[count]!)) count += 1
    if (count === 0) return []
    const acknowledged = this.#unacknowledged.splice(0, count)
    for (const { bytes } of acknowledged) this.#unacknowledgedBytes -= bytes
    this.#fill()
    return acknowledged.map(({ message }) => message)
  }

  /** Removes the messages that wait for room, and returns them. */
  dropWaiting(): Message[] {
    this.#waitingBytes = 0
    return this.#waiting.splice(0)
  }

  #fill(): void {
    let count = 0
    for (; count < this.#waiting.length && this.#unacknowledged.length < this.#limits.messages; count += 1) {
      const message = this.#waiting[count]!
      const bytes = sizeOf(message)
      // An empty window takes one message of any size: otherwise a large one would never be delivered.
      if (this.#unacknowledged.length > 0 && this.#unacknowledgedBytes + bytes > this.#limits.bytes) break
      this.#waitingBytes -= bytes
      this.#unacknowledgedBytes += bytes
      this.#unacknowledged.push({ message, bytes, ...this.#append(message) })
    }
    if (count > 0) this.#waiting.splice(0, count)
  }
}

function sizeOf({ topic, payload }: { topic: string; payload: Buffer }): number {
  return topic.length + payload.length + OVERHEAD_BYTES
}
