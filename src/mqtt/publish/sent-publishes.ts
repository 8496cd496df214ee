import type { InFlight } from './in-flight.ts'

const MAX_PACKET_ID = 65_535

/**
 * The publishes of one connection that have a packet identifier. In an array: a Map that is added to and deleted from for
 * ever leaves its former tables behind, each with the messages it held then and a reference to the next one, and once
 * one of them is among V8's old objects, all behind it live until the next full collection.
 */
export class SentPublishes {
  /** By packet identifier; as long as the highest one used so far. */
  readonly #entries: (InFlight | undefined)[] = []
  #lastId = 0
  #size = 0
  #added = 0

  get size(): number {
    return this.#size
  }

  get(id: number): InFlight | undefined {
    return this.#entries[id]
  }

  /** Gives it an identifier that no other has, the one used longest ago. Not to be called with all of them in use. */
  add(entry: InFlight): void {
    do this.#lastId = (this.#lastId % MAX_PACKET_ID) + 1
    while (this.#entries[this.#lastId] !== undefined)
    entry.id = this.#lastId
    entry.order = this.#added += 1
    this.#entries[entry.id] = entry
    this.#size += 1
  }

  delete({ id }: InFlight): void {
    if (this.#entries[id] === undefined) return
    this.#entries[id] = undefined
    this.#size -= 1
  }

  /** In the order in which they were added. */
  list(): InFlight[] {
    return this.#entries.filter((entry) => entry !== undefined).sort((a, b) => a.order - b.order)
  }
}
