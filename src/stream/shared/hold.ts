import type { Writable } from 'node:stream'
import type { Channel } from '../channel.ts'
import type { SlowPolicy } from '../reader.ts'

export interface JoinOptions<Message> {
  slow: SlowPolicy
  lastEventId: string | undefined
  /** Messages for this reader alone, before all others. */
  first: readonly Message[]
  /** As that of a `Reader`. */
  until?: AbortSignal | undefined
}

interface HoldHooks<Message> {
  /** Of the newest event there is. */
  sequence(): number
  join(response: Writable, options: JoinOptions<Message>): void
  release(): void
}

/** More are not remembered: a reader that joins under such a load may get a retained message live once more. */
const MAX_SEEN = 65_536
const MAX_SEEN_BYTES = 16_777_216

/**
 * A hold on a channel, which lives at least until the last one is released, and its linger after that.
 * It remembers where the channel stood when it began, so that a reader that joins later misses nothing.
 */
export class Hold<Message extends { payload: Buffer }> {
  readonly #channel: Channel
  readonly #hooks: HoldHooks<Message>
  readonly #seen: Message[] = []
  #seenBytes = 0
  #position = 0
  #sequence = 0
  #gaps = 0

  constructor(channel: Channel, hooks: HoldHooks<Message>) {
    this.#channel = channel
    this.#hooks = hooks
  }

  get position(): number {
    return this.#position
  }

  get sequence(): number {
    return this.#sequence
  }

  /** Whether messages may be missing among those delivered since it started. */
  get interrupted(): boolean {
    return this.#channel.gaps !== this.#gaps
  }

  /** Messages delivered since the hold started, until it was joined. */
  get seen(): readonly Message[] {
    return this.#seen
  }

  /** A reader that joins will follow from here. Done again, what was delivered before is not for it. */
  start(): void {
    this.#position = this.#channel.log.next
    this.#sequence = this.#hooks.sequence()
    this.#gaps = this.#channel.gaps
    this.#seen.length = 0
    this.#seenBytes = 0
  }

  saw(message: Message): void {
    this.#seenBytes += message.payload.length
    if (this.#seen.length < MAX_SEEN && this.#seenBytes <= MAX_SEEN_BYTES) this.#seen.push(message)
  }

  /** Streams to a response whose headers are written, until either side ends it; then releases. */
  join(response: Writable, options: JoinOptions<Message>): void {
    this.#hooks.join(response, options)
  }

  release(): void {
    this.#hooks.release()
  }
}
