import type { Held, MemoryShare } from '../../memory/account.ts'
import { Channel, type ChannelOptions } from '../channel.ts'
import { eventId } from '../event-id.ts'
import { type Encoder, encodeMessage, type StreamMessage } from '../events.ts'
import { Expiry } from '../expiry.ts'
import { NoRoom } from '../no-room.ts'
import type { StreamEnd } from '../reader.ts'
import type { Frame } from '../slab.ts'
import type { LiveMessages } from './join.ts'
import type { Lingering } from './lingering.ts'

export interface SubscribedChannelOptions<Message extends StreamMessage> {
  /** The same for all streams that can share this channel. */
  key: string
  filters: readonly string[]
  /** The QoS that its streams asked for. */
  qos: 0 | 1 | 2
  /** Whose memory it takes: that of the caller who opened it. */
  share: MemoryShare
  channel: Omit<ChannelOptions, 'format' | 'held'>
  encoder: Encoder<Message>
  /** How long the subscription is kept after the last user has gone. */
  lingerMs: number
  /** It adds and deletes itself. */
  lingering: Lingering<Message>
  /** It has no user any more, and lingers. */
  onIdle(subscribed: SubscribedChannel<Message>): void
  /** Nobody has used it for `lingerMs`. */
  onUnused(subscribed: SubscribedChannel<Message>): void
}

/** Roughly what a channel takes besides its filters and its log: its objects here and those of its subscriptions. */
const CHANNEL_BYTES = 4096
const FILTER_BYTES = 1024
/** What one level of a filter takes in the tree of filters. */
const LEVEL_BYTES = 400

/** A channel, the filters that are subscribed to for it, and how many use it: readers, and those about to join. */
export class SubscribedChannel<Message extends StreamMessage> {
  readonly key: string
  readonly filters: readonly string[]
  readonly qos: 0 | 1 | 2
  readonly channel: Channel
  readonly encoder: Encoder<Message>
  /** Resolves once the broker has granted every filter; rejects with its refusal. */
  granted: Promise<void> = Promise.resolve()
  /** Records of the messages delivered to the channel, one for each join that compares them with retained messages. */
  readonly recordings = new Set<LiveMessages<Message>>()
  /** Whether it is unsubscribed. Nothing is delivered to it any more. */
  isClosed = false
  /** How its streams ended. Who joins after that is told the same. */
  end: StreamEnd | undefined
  readonly #options: SubscribedChannelOptions<Message>
  /** Those who use it, and whose memory they take. */
  readonly #users = new Map<object, MemoryShare>()
  #filtersHeld: Held
  #linger: NodeJS.Timeout | undefined

  /** @throws NoRoom */
  constructor(options: SubscribedChannelOptions<Message>) {
    const { key, filters, qos, share, channel, encoder } = options
    this.#options = options
    this.key = key
    this.filters = filters
    this.qos = qos
    this.encoder = encoder
    this.#filtersHeld = share.hold('filters')
    if (!this.#filtersHeld.grow(costOf(filters))) throw new NoRoom()
    this.channel = new Channel({ ...channel, format: encoder.format, held: share.hold('logs') })
  }

  /** Whose memory it takes. */
  get share(): MemoryShare {
    return this.#filtersHeld.share
  }

  /** What ending it would free, besides what others pay for. */
  get heldBytes(): number {
    return this.#filtersHeld.bytes + this.channel.log.heldBytes
  }

  /**
   * Keeps the subscription until the returned function is called. A second call of that does nothing.
   * @param share whose memory it takes if all others go
   */
  use(share: MemoryShare): () => void {
    clearTimeout(this.#linger)
    this.#options.lingering.delete(this)
    const user = {}
    this.#users.set(user, share)
    return () => {
      if (!this.#users.delete(user) || this.isClosed) return
      if (this.#users.size > 0) return this.#left(share)
      this.#options.lingering.add(this)
      this.#linger = setTimeout(() => this.#options.onUnused(this), this.#options.lingerMs)
      this.#options.onIdle(this)
    }
  }

  close(): void {
    clearTimeout(this.#linger)
    this.#options.lingering.delete(this)
    this.isClosed = true
    this.channel.log.shrink(Infinity)
    this.#filtersHeld.release()
  }

  /** A message as an event; undefined where it is too large. */
  encodeMessage(sequence: number, message: Message): Buffer | undefined {
    return encodeMessage(this.encoder, eventId(this.channel.epoch, sequence), message)
  }

  /** A message as a frame for all channels whose encoders have the same name; a gap where the message is too large. */
  frameOf(sequence: number, message: Message): Frame {
    const { topic } = message
    const { limits } = this.#options.channel
    // No event is shorter than its payload.
    const bytes = message.payload.length > limits.bytes ? undefined : this.encodeMessage(sequence, message)
    if (bytes === undefined || bytes.length > limits.bytes) {
      return { sequence, bytes: this.tooLarge(sequence), topic: undefined, expiry: undefined }
    }
    return { sequence, bytes, topic, expiry: this.expiryOf(message) }
  }

  /** @param arrivedMs when the message arrived, in milliseconds of `performance.now()`; now by default */
  expiryOf({ properties }: Message, arrivedMs?: number): Expiry | undefined {
    const seconds = properties?.messageExpiryInterval
    return seconds === undefined ? undefined : new Expiry(seconds, this.encoder.withExpiry, arrivedMs)
  }

  /** The event in place of a message that is too large. */
  tooLarge(sequence: number): Buffer {
    return this.channel.encode('gap', sequence, { reason: 'message-too-large', dropped: 1 })
  }

  /** If no user is left whose memory it takes, it takes that of another one. */
  #left({ name }: MemoryShare): void {
    if (name !== this.share.name) return
    let other: MemoryShare | undefined
    for (const share of this.#users.values()) {
      if (share.name === name) return
      other ??= share
    }
    this.channel.log.payFrom(other!.hold('logs'))
    this.#filtersHeld.release()
    this.#filtersHeld = other!.hold('filters')
    this.#filtersHeld.growAnyway(costOf(this.filters))
  }
}

function costOf(filters: readonly string[]): number {
  let bytes = CHANNEL_BYTES
  for (const filter of filters) bytes += FILTER_BYTES + 4 * filter.length + LEVEL_BYTES * filter.split('/').length
  return bytes
}
