/** A message that waits. */
export interface Queued {
  readonly message: { readonly topic: string }
  /** Counts on. */
  readonly sequence: number
}

interface Link<Item> {
  item: Item
  next: Link<Item> | undefined
}

interface TopicQueue<Item> {
  oldest: Link<Item> | undefined
  /** Means nothing where there is no oldest one. */
  newest: Link<Item> | undefined
  /** The call of `take` that took messages of it which are not released; undefined where all are. */
  takenBy: number | undefined
  isInHeap: boolean
}

/**
 * Messages that wait, by topic. Given out are always the oldest ones whose topic has no message on its way. What that
 * takes grows with the logarithm of the number of topics, and not with the number of messages: a thousand messages
 * behind a busy topic are not looked at.
 */
export class TopicQueues<Item extends Queued> {
  readonly #queues = new Map<string, TopicQueue<Item>>()
  /** Queues with messages as a binary heap, the one with the oldest message first. Busy ones are removed late. */
  readonly #heap: TopicQueue<Item>[] = []
  #takes = 0

  add(item: Item): void {
    const { topic } = item.message
    let queue = this.#queues.get(topic)
    if (queue === undefined) {
      queue = { oldest: undefined, newest: undefined, takenBy: undefined, isInHeap: false }
      this.#queues.set(topic, queue)
    }
    const link = { item, next: undefined }
    if (queue.oldest === undefined) queue.oldest = link
    else queue.newest!.next = link
    queue.newest = link
    if (queue.takenBy === undefined) this.#push(queue)
  }

  /**
   * Takes the oldest messages that may go now, `count` at most; several of one topic may be among them, in their order.
   * No more of their topics are given out until they are released.
   */
  take(count: number): Item[] {
    const taken: Item[] = []
    const take = (this.#takes += 1)
    while (taken.length < count) {
      const queue = this.#pop()
      if (queue === undefined) break
      if (queue.takenBy !== undefined && queue.takenBy !== take) continue
      queue.takenBy = take
      const oldest = queue.oldest!
      const { item, next } = oldest
      // Otherwise a link of V8's old generation would keep all later ones alive after it, until that is collected.
      oldest.next = undefined
      taken.push(item)
      queue.oldest = next
      if (next !== undefined && taken.length < count) this.#push(queue)
    }
    return taken
  }

  /** The messages of one call of `take` are on their way no more. */
  release(items: readonly Item[]): void {
    for (const { message } of items) {
      const queue = this.#queues.get(message.topic)
      // The first message of a topic releases it for all of them.
      if (queue?.takenBy === undefined) continue
      queue.takenBy = undefined
      if (queue.oldest === undefined) this.#queues.delete(message.topic)
      else this.#push(queue)
    }
  }

  /** Forgets what waits. */
  clear(): void {
    this.#queues.clear()
    this.#heap.length = 0
  }

  #push(queue: TopicQueue<Item>): void {
    if (queue.isInHeap) return
    queue.isInHeap = true
    const heap = this.#heap
    let at = heap.length
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (sequenceOf(heap[parent]!) < sequenceOf(queue)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = queue
  }

  #pop(): TopicQueue<Item> | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined) return undefined
    first.isInHeap = false
    if (heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && sequenceOf(heap[child + 1]!) < sequenceOf(heap[child]!)) child += 1
      if (sequenceOf(last) < sequenceOf(heap[child]!)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

/** Of the oldest message. */
function sequenceOf<Item extends Queued>({ oldest }: TopicQueue<Item>): number {
  return oldest!.item.sequence
}
