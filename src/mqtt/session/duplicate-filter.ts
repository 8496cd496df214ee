import type { Message } from '../message.ts'

/**
 * Recognizes copies of one message. Where filters overlap, an MQTT 5 broker may send a copy for each of them, one right
 * after the other, each with the identifier of its subscription. Other brokers send a single copy, with an identifier
 * of their choice. So a message is a duplicate if it equals the one before and its identifier has not been seen with
 * that.
 */
export class DuplicateFilter {
  #lastMessage: Message | undefined
  /** The identifiers with which the last message came. */
  #seenIdentifiers: number[] = []

  isDuplicate(message: Message, identifiers: readonly number[]): boolean {
    const [identifier] = identifiers
    // No identifier tells nothing, and with several of them the broker sends one copy for all subscriptions.
    if (identifier === undefined || identifiers.length > 1) {
      this.reset()
      return false
    }
    const isDuplicate =
      this.#lastMessage !== undefined &&
      isSame(this.#lastMessage, message) &&
      !this.#seenIdentifiers.includes(identifier)
    if (isDuplicate) this.#seenIdentifiers.push(identifier)
    else this.#seenIdentifiers = [identifier]
    this.#lastMessage = message
    return isDuplicate
  }

  /** Forgets the last message, so that the next one is no duplicate. */
  reset(): void {
    this.#lastMessage = undefined
  }
}

function isSame(a: Message, b: Message): boolean {
  return (
    a.topic === b.topic &&
    a.retain === b.retain &&
    a.payload.equals(b.payload) &&
    JSON.stringify(a.properties) === JSON.stringify(b.properties)
  )
}
