import type { Channel } from '../channel.ts'
import type { Reader } from '../reader.ts'
import { type Task, WorkQueue, type WorkQueueOptions } from './work-queue.ts'

/** The work queue of each shared subscription, found by the set of its channels. */
export class WorkQueues<Message> {
  readonly #options: Omit<WorkQueueOptions<Message>, 'channels'>
  readonly #queues = new Map<ReadonlySet<Channel>, WorkQueue<Message>>()

  constructor(options: Omit<WorkQueueOptions<Message>, 'channels'>) {
    this.#options = options
  }

  /** @param channels the same set for as long as the subscription; channels come and go in it */
  push(channels: ReadonlySet<Channel>, task: Task<Message>): void {
    let queue = this.#queues.get(channels)
    if (queue === undefined) this.#queues.set(channels, (queue = new WorkQueue({ ...this.#options, channels })))
    queue.push(task)
  }

  /** A channel has a new reader. */
  admit(channel: Channel, reader: Reader): void {
    for (const [channels, queue] of this.#queues) if (channels.has(channel)) queue.admit(reader)
  }

  /** A channel has a reader that takes more. */
  distribute(channel: Channel): void {
    for (const [channels, queue] of this.#queues) if (channels.has(channel)) queue.distribute()
  }

  /** Forgets the queues of subscriptions that nobody holds. */
  prune(): void {
    for (const channels of this.#queues.keys()) if (channels.size === 0) this.#queues.delete(channels)
  }
}
