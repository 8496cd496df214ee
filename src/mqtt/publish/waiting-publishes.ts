import type { InFlight } from './in-flight.ts'

/**
 * Publishes that are not sent yet. Callers take turns, one message each, so that one with many messages waiting does
 * not keep another one waiting. Each caller's messages keep their order.
 */
export class WaitingPublishes {
  /** By caller, in the order of their turns; without callers that have nothing waiting. */
  readonly #callers = new Map<string, InFlight[]>()
  #count = 0

  get count(): number {
    return this.#count
  }

  /** The next one to be sent. */
  get next(): InFlight | undefined {
    for (const publishes of this.#callers.values()) return publishes[0]
    return undefined
  }

  /** The most that one more publish of a caller may have to wait for. */
  countAhead(caller: string): number {
    if (this.#callers.size <= 1 && this.#callers.has(caller)) return this.#count
    const own = this.#callers.get(caller)?.length ?? 0
    return Math.min(this.#count, own + (own + 1) * this.#callers.size)
  }

  add(publish: InFlight): void {
    const publishes = this.#callers.get(publish.caller)
    if (publishes === undefined) this.#callers.set(publish.caller, [publish])
    else publishes.push(publish)
    this.#count += 1
  }

  /** Puts one that was taken back before all others. */
  putBack(publish: InFlight): void {
    const callers = [...this.#callers]
    const publishes = this.#callers.get(publish.caller) ?? []
    publishes.unshift(publish)
    this.#callers.clear()
    this.#callers.set(publish.caller, publishes)
    for (const [caller, others] of callers) this.#callers.set(caller, others)
    this.#count += 1
  }

  /** Takes the next one out. The turn passes to another caller. */
  take(): void {
    for (const [caller, publishes] of this.#callers) {
      publishes.shift()
      this.#count -= 1
      if (publishes.length === 0) this.#callers.delete(caller)
      else if (this.#callers.size > 1) {
        this.#callers.delete(caller)
        this.#callers.set(caller, publishes)
      }
      return
    }
  }

  /** Takes one out, wherever it is. */
  remove(publish: InFlight): void {
    const publishes = this.#callers.get(publish.caller) ?? []
    // A caller's publishes time out in the order in which they were accepted, so the search ends at the beginning.
    const index = publishes.indexOf(publish)
    if (index < 0) return
    publishes.splice(index, 1)
    this.#count -= 1
    if (publishes.length === 0) this.#callers.delete(publish.caller)
  }

  /** Takes all of them out, in the order in which they would have been sent. */
  removeAll(): InFlight[] {
    const all: InFlight[] = []
    for (let next = this.next; next !== undefined; next = this.next) {
      all.push(next)
      this.take()
    }
    return all
  }

  /**
   * The publish that has to go so that one of a caller finds room: the newest of the caller that has most of them, if
   * it gives way, and that caller has more than this one would have.
   */
  toMakeRoomFor(caller: string): InFlight | undefined {
    let most = (this.#callers.get(caller)?.length ?? 0) + 1
    let newest: InFlight | undefined
    for (const publishes of this.#callers.values()) {
      if (publishes.length <= most || !publishes.at(-1)!.givesWay) continue
      most = publishes.length
      newest = publishes.at(-1)
    }
    return newest
  }
}
