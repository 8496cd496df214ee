import type { Message } from '../message.ts'
import type { PublishQueue } from './publish-queue.ts'

interface WaitingMessage {
  message: Message
  /** Publishes it. Must not throw. */
  start(): void
}

/** The messages of one caller that wait, in order. */
interface WaitingCaller {
  name: string
  messages: WaitingMessage[]
}

/**
 * Lets messages of batches into one queue while it has room for them. Callers whose messages wait take turns, so that
 * one with many messages does not keep out another one with few. Each caller's messages keep their order.
 */
export class BatchAdmission {
  readonly #queue: PublishQueue
  /** Messages that entered and have not left. */
  #inFlight = 0
  /** In the order of their turns. */
  #callers: WaitingCaller[] = []
  #isScheduled = false

  constructor(queue: PublishQueue) {
    this.#queue = queue
    queue.onRoom = () => this.#schedule()
  }

  /** Takes a place. Returns false where the message has to wait. Whoever gets a place gives it back with `leave`. */
  tryEnter(message: Message): boolean {
    if (this.#callers.length > 0 || !this.#queue.hasRoomForBatch(message, this.#inFlight)) return false
    this.#inFlight += 1
    return true
  }

  /** @param start called as soon as the message has a place */
  wait(name: string, message: Message, start: () => void): void {
    let caller = this.#callers.find((waiting) => waiting.name === name)
    if (caller === undefined) this.#callers.push((caller = { name, messages: [] }))
    caller.messages.push({ message, start })
  }

  leave(): void {
    this.#inFlight -= 1
    this.#schedule()
  }

  /** Not at once: a publish that begins while the queue handles the end of another one would be sent out of order. */
  #schedule(): void {
    if (this.#isScheduled || this.#callers.length === 0) return
    this.#isScheduled = true
    process.nextTick(() => {
      this.#isScheduled = false
      this.#admit()
    })
  }

  #admit(): void {
    for (let caller = this.#callers[0]; caller !== undefined; caller = this.#callers[0]) {
      const { message, start } = caller.messages[0]!
      if (!this.#queue.hasRoomForBatch(message, this.#inFlight)) return
      caller.messages.shift()
      this.#callers.shift()
      if (caller.messages.length > 0) this.#callers.push(caller)
      this.#inFlight += 1
      start()
    }
  }
}
