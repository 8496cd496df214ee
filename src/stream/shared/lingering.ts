import type { StreamMessage } from '../events.ts'
import type { SubscribedChannel } from './subscribed-channel.ts'

/** The channels without a user, in all and of each caller, the one that has been without for longest first. */
export class Lingering<Message extends StreamMessage> {
  readonly #all = new Set<SubscribedChannel<Message>>()
  readonly #byCaller = new Map<string, Set<SubscribedChannel<Message>>>()

  add(subscribed: SubscribedChannel<Message>): void {
    const { name } = subscribed.share
    this.#all.add(subscribed)
    const own = this.#byCaller.get(name)
    if (own === undefined) this.#byCaller.set(name, new Set([subscribed]))
    else own.add(subscribed)
  }

  delete(subscribed: SubscribedChannel<Message>): void {
    const { name } = subscribed.share
    const own = this.#byCaller.get(name)
    this.#all.delete(subscribed)
    own?.delete(subscribed)
    if (own?.size === 0) this.#byCaller.delete(name)
  }

  countOf(caller: string): number {
    return this.#byCaller.get(caller)?.size ?? 0
  }

  /** @param caller undefined for anybody's */
  longest(caller: string | undefined): SubscribedChannel<Message> | undefined {
    const [longest] = caller === undefined ? this.#all : (this.#byCaller.get(caller) ?? [])
    return longest
  }
}
