import type { Message } from '../message.ts'

/**
 * Tells copies of one message apart from messages: where filters overlap, an MQTT 5 broker may send a copy for each, one
 * behind the other, with the subscription's identifier. Where it keeps one copy only, whose it is is the broker's choice:
 * so the identifier alone makes no copy, but equality with the message before under an identifier not seen yet.
 */
export class DuplicateFilter {
  #last: Message | undefined
  readonly #identifiers = new Set<number>()

  isDuplicate(message: Message, identifiers: readonly number[]): boolean {
    const [identifier] = identifiers
    if (identifier === undefined || identifiers.length > 1) {
      this.reset()
      return false
    }
    const isCopy = this.#last !== undefined && isSame(this.#last, message) && !this.#identifiers.has(identifier)
    if (!isCopy) this.#identifiers.clear()
    this.#identifiers.add(identifier)
    this.#last = message
    return isCopy
  }

  /** What follows is no copy of what came before. */
  reset(): void {
    this.#last = undefined
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
