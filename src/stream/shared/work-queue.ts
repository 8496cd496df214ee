import type { Held } from '../../memory/account.ts'
import { ownBytes } from '../../memory/own-bytes.ts'
import type { StreamMessage } from '../events.ts'
import type { LogLimits } from '../log.ts'
import type { Reader } from '../reader.ts'
import type { SubscribedChannel } from './subscribed-channel.ts'

export interface QueuedMessage<Message> {
  sequence: number
  message: Message
  /** What it takes in memory. */
  bytes: number
  /** In milliseconds of `performance.now()`. */
  arrivedMs: number
}

/** A reader, and its channel. */
interface Consumer<Message extends StreamMessage> {
  reader: Reader
  subscribed: SubscribedChannel<Message>
}

/**
 * The messages of one shared subscription. Each goes to one reader, round robin over the readers of all its channels,
 * and never to one whose socket is full. While all sockets are full, messages wait here. At the limits, and where
 * there is no room in memory, the oldest are dropped.
 */
export class WorkQueue<Message extends StreamMessage> {
  readonly #channels: ReadonlySet<SubscribedChannel<Message>>
  readonly #limits: LogLimits
  /** Where the memory of the messages is counted: for a caller that has one of the channels. */
  #held: Held
  #waiting: QueuedMessage<Message>[] = []
  /** Messages at the front of the array that were handed out or dropped, and are not cut off yet. */
  #taken = 0
  /** Messages at the front of the array that have memory of their own. */
  #owned = 0
  #bytes = 0
  /** Counts on; modulo the number of readers it says whose turn it is. */
  #turn = 0
  #isScheduled = false
  /** Messages dropped so far, and the sequence of the last one. */
  #dropped = 0
  #lastDropped = 0
  /** How many of the dropped messages were reported in a gap to any reader, and to each reader. */
  #reported = 0
  readonly #reportedTo = new WeakMap<Reader, number>()

  /** @param channels whose readers the messages go to; they come and go */
  constructor(channels: ReadonlySet<SubscribedChannel<Message>>, limits: LogLimits) {
    this.#channels = channels
    this.#limits = limits
    this.#held = this.#anyHeld()
  }

  /** How much of what may wait does, from 0 to 1. At 1 the next message drops the oldest one. */
  get fill(): number {
    const { bytes, messages } = this.#limits
    return Math.min(1, Math.max((this.#waiting.length - this.#taken) / messages, this.#bytes / bytes))
  }

  /** Handed out at the end of this turn of the event loop, with all else that came in it. */
  push(queued: QueuedMessage<Message>): void {
    if (this.#makeRoom(queued.bytes)) {
      this.#waiting.push(queued)
      this.#bytes += queued.bytes
    } else this.#countDropped(queued)
    while (this.#bytes > this.#limits.bytes || this.#waiting.length - this.#taken > this.#limits.messages) {
      this.#countDropped(this.#take())
    }
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.distribute()
    })
  }

  /** Messages that were dropped before, and reported to another reader, are not reported to this new one. */
  addReader(reader: Reader): void {
    this.#reportedTo.set(reader, this.#reported)
  }

  /** The caller whose memory it took may have no channel any more. */
  channelsChanged(): void {
    const { name } = this.#held.share
    for (const { share } of this.#channels) if (share.name === name) return
    this.#held.release()
    if (this.#channels.size === 0) return
    this.#held = this.#anyHeld()
    this.#held.growAnyway(this.#bytes)
  }

  distribute(): void {
    const consumers = [...this.#channels].flatMap((subscribed) =>
      [...subscribed.channel.readers].map((reader): Consumer<Message> => ({ subscribed, reader })),
    )
    if (this.#dropped > 0) {
      for (const consumer of consumers) if (consumer.reader.isReady) this.#reportDropped(consumer)
    }
    while (this.#taken < this.#waiting.length) {
      const consumer = this.#nextReady(consumers)
      if (consumer === undefined) return this.#keepWaiting()
      this.#write(this.#take(), consumer)
    }
  }

  #write({ sequence, message, arrivedMs }: QueuedMessage<Message>, { reader, subscribed }: Consumer<Message>): void {
    let bytes = subscribed.encodeMessage(sequence, message)
    if (bytes === undefined) {
      subscribed.channel.counters.gap('message-too-large', 1)
      return reader.write(subscribed.tooLarge(sequence), 1)
    }
    const expiry = subscribed.expiryOf(message, arrivedMs)
    if (expiry !== undefined) bytes = expiry.current(bytes)
    if (bytes !== undefined) reader.write(bytes, 1)
  }

  /** What nobody takes now may wait for long. */
  #keepWaiting(): void {
    for (let index = Math.max(this.#owned, this.#taken); index < this.#waiting.length; index += 1) {
      const { message } = this.#waiting[index]!
      message.payload = ownBytes(message.payload)
    }
    this.#owned = this.#waiting.length
  }

  #anyHeld(): Held {
    const [subscribed] = this.#channels
    return subscribed!.share.hold('logs')
  }

  #makeRoom(bytes: number): boolean {
    if (this.#held.grow(bytes)) return true
    // A quarter goes, so that this does not happen again at each message.
    const kept = Math.min((this.#bytes * 3) / 4, this.#bytes - bytes)
    while (this.#taken < this.#waiting.length && this.#bytes > kept) this.#countDropped(this.#take())
    return this.#held.grow(bytes)
  }

  #countDropped({ sequence }: QueuedMessage<Message>): void {
    this.#lastDropped = sequence
    this.#dropped += 1
  }

  #nextReady(consumers: Consumer<Message>[]): Consumer<Message> | undefined {
    for (let tried = 0; tried < consumers.length; tried += 1) {
      const consumer = consumers[this.#turn++ % consumers.length]!
      if (consumer.reader.isReady) return consumer
    }
    return undefined
  }

  #reportDropped({ reader, subscribed: { channel } }: Consumer<Message>): void {
    const dropped = this.#dropped - (this.#reportedTo.get(reader) ?? 0)
    if (dropped === 0) return
    // Every reader gets a gap, but each dropped message is counted once.
    channel.counters.gap('overrun', this.#dropped - this.#reported)
    this.#reported = this.#dropped
    this.#reportedTo.set(reader, this.#dropped)
    const gap = channel.encode('gap', this.#lastDropped, { reason: 'overrun', dropped })
    if (reader.slow === 'close') reader.close('slow', gap)
    else reader.write(gap, 1)
  }

  #take(): QueuedMessage<Message> {
    const queued = this.#waiting[this.#taken]!
    this.#taken += 1
    this.#bytes -= queued.bytes
    this.#held.shrink(queued.bytes)
    // Cutting off half of the array at a time costs each message a constant time on average.
    if (this.#taken * 2 >= this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#taken)
      this.#owned = Math.max(0, this.#owned - this.#taken)
      this.#taken = 0
    }
    return queued
  }
}
