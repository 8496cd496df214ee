import type { StreamMessage } from '../events.ts'
import type { LogLimits } from '../log.ts'
import type { Reader } from '../reader.ts'
import type { SubscribedChannel } from './subscribed-channel.ts'
import { type QueuedMessage, WorkQueue } from './work-queue.ts'

/** The work queue of each shared subscription, found by the set of its channels. */
export class WorkQueues<Message extends StreamMessage> {
  readonly #limits: LogLimits
  readonly #queues = new Map<ReadonlySet<SubscribedChannel<Message>>, WorkQueue<Message>>()

  constructor(limits: LogLimits) {
    this.#limits = limits
  }

  /** How full each of them is, from 0 to 1. */
  get fills(): number[] {
    return [...this.#queues.values()].map(({ fill }) => fill)
  }

  /** @param channels always the same set for one subscription, though channels come and go in it */
  push(channels: ReadonlySet<SubscribedChannel<Message>>, queued: QueuedMessage<Message>): void {
    let queue = this.#queues.get(channels)
    if (queue === undefined) this.#queues.set(channels, (queue = new WorkQueue(channels, this.#limits)))
    queue.push(queued)
  }

  /** A channel has a new reader. */
  addReader(subscribed: SubscribedChannel<Message>, reader: Reader): void {
    for (const [channels, queue] of this.#queues) if (channels.has(subscribed)) queue.addReader(reader)
  }

  /** A reader of this channel takes more. */
  distribute(subscribed: SubscribedChannel<Message>): void {
    for (const [channels, queue] of this.#queues) if (channels.has(subscribed)) queue.distribute()
  }

  /** To be called when a channel is gone. Drops the queues of subscriptions that have none left. */
  channelsChanged(): void {
    for (const [channels, queue] of this.#queues) {
      queue.channelsChanged()
      if (channels.size === 0) this.#queues.delete(channels)
    }
  }
}
