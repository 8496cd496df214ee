import type { Channel } from './channel.ts'
import type { Reader } from './reader.ts'

/**
 * The readers of a shared subscription: each event goes to one of them, in turn, and none to one whose socket is
 * full. While all are full, events wait in the log.
 */
export class WorkQueue {
  readonly #channel: Channel
  #position: number
  #turn = 0

  constructor(channel: Channel) {
    this.#channel = channel
    this.#position = channel.log.next
  }

  distribute(): void {
    const { log } = this.#channel
    const readers = [...this.#channel.readers]
    while (this.#position < log.next) {
      if (this.#position < log.first) this.#overtaken()
      const reader = this.#nextReady(readers)
      if (reader === undefined) return
      const { bytes, next } = log.read(this.#position, 0)
      this.#position = next
      reader.write(bytes, 1)
    }
  }

  #nextReady(readers: Reader[]): Reader | undefined {
    for (let tried = 0; tried < readers.length; tried += 1) {
      const reader = readers[this.#turn++ % readers.length]!
      if (reader.isReady) return reader
    }
    return undefined
  }

  #overtaken(): void {
    const { log } = this.#channel
    const gap = this.#channel.gap('overrun', log.first - this.#position)
    this.#position = log.first
    for (const reader of this.#channel.readers) reader.announce('gap', gap)
  }
}
