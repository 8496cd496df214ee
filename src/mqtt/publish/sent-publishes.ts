import type { InFlight } from './in-flight.ts'

const MAX_PACKET_ID = 65_535

/**
 * The publishes of one connection that have a packet identifier. They are kept in an array, because a Map that is added
 * to and deleted from all the time leaves its earlier hash tables behind, each with the messages of that moment and a
 * reference to the next table. Once V8 has moved one of them to the old generation, all later ones stay in memory until
 * the next full garbage collection.
 */
export class SentPublishes {
  /** By packet identifier. Its length is the highest identifier used so far, plus one. */
  readonly #byPacketId: (InFlight | undefined)[] = []
  #lastPacketId = 0
  #size = 0
  #added = 0
  #abandoned = 0

  get size(): number {
    return this.#size
  }

  /** How many of them a caller waits for. */
  get awaited(): number {
    return this.#size - this.#abandoned
  }

  get(packetId: number): InFlight | undefined {
    return this.#byPacketId[packetId]
  }

  has(publish: InFlight): boolean {
    return this.#byPacketId[publish.packetId] === publish
  }

  /** Gives it a free identifier, the one used longest ago. One has to be free. */
  add(publish: InFlight): void {
    do this.#lastPacketId = (this.#lastPacketId % MAX_PACKET_ID) + 1
    while (this.#byPacketId[this.#lastPacketId] !== undefined)
    publish.packetId = this.#lastPacketId
    publish.sequence = this.#added += 1
    this.#byPacketId[publish.packetId] = publish
    this.#size += 1
    publish.retain()
  }

  delete(publish: InFlight): void {
    if (!this.has(publish)) return
    this.#byPacketId[publish.packetId] = undefined
    this.#size -= 1
    if (publish.isSettled) this.#abandoned -= 1
    publish.release()
  }

  /** Its caller has an answer and the broker has not acknowledged it. To be called when that happens. */
  abandoned(publish: InFlight): void {
    if (this.has(publish)) this.#abandoned += 1
  }

  /** In the order in which they were added. */
  list(): InFlight[] {
    return this.#byPacketId.filter((publish) => publish !== undefined).sort((a, b) => a.sequence - b.sequence)
  }
}
