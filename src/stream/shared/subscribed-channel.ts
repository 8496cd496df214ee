import type { Channel } from '../channel.ts'
import type { Encoder, StreamMessage } from '../events.ts'
import type { StreamEnd } from '../reader.ts'
import type { LiveMessages } from './join.ts'

export interface SubscribedChannelOptions<Message extends StreamMessage> {
  /** The same for all streams that can share this channel. */
  key: string
  filters: readonly string[]
  channel: Channel
  encoder: Encoder<Message>
  /** How long the subscription is kept after the last user has gone. */
  lingerMs: number
  /** Nobody has used it for `lingerMs`. */
  onUnused(subscribed: SubscribedChannel<Message>): void
}

/** A channel, the filters that are subscribed to for it, and how many use it: readers, and those about to join. */
export class SubscribedChannel<Message extends StreamMessage> {
  readonly key: string
  readonly filters: readonly string[]
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
  readonly #lingerMs: number
  readonly #onUnused: (subscribed: SubscribedChannel<Message>) => void
  readonly #users = new Set<object>()
  #linger: NodeJS.Timeout | undefined

  constructor({ key, filters, channel, encoder, lingerMs, onUnused }: SubscribedChannelOptions<Message>) {
    this.key = key
    this.filters = filters
    this.channel = channel
    this.encoder = encoder
    this.#lingerMs = lingerMs
    this.#onUnused = onUnused
  }

  /** Keeps the subscription until the returned function is called. A second call of that does nothing. */
  use(): () => void {
    clearTimeout(this.#linger)
    const user = {}
    this.#users.add(user)
    return () => {
      if (!this.#users.delete(user) || this.#users.size > 0 || this.isClosed) return
      this.#linger = setTimeout(() => this.#onUnused(this), this.#lingerMs)
    }
  }

  close(): void {
    clearTimeout(this.#linger)
    this.isClosed = true
  }

  encodeMessage(sequence: number, message: Message): Buffer {
    return this.channel.encode('message', sequence, this.encoder.messageData(message))
  }
}
