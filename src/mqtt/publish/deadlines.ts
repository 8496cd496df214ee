import type { InFlight } from './in-flight.ts'

/**
 * The publishes of one queue whose callers wait, in the order in which they were accepted. As all may wait equally
 * long, that is also the order of their deadlines, and one timer is enough: a timer for each cost 3 % of a publish.
 * They are linked to each other, so that one that is answered leaves at once, wherever it is.
 */
export class Deadlines {
  readonly #timeoutMs: number
  #first: InFlight | undefined
  #last: InFlight | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** The publish that was accepted first. */
  get first(): InFlight | undefined {
    return this.#first
  }

  add(publish: InFlight): void {
    publish.earlier = this.#last
    if (this.#last === undefined) this.#first = publish
    else this.#last.later = publish
    this.#last = publish
    this.#timer ??= setTimeout(() => this.#expire(), this.#timeoutMs)
  }

  remove(publish: InFlight): void {
    const { earlier, later } = publish
    if (earlier === undefined) this.#first = later
    else earlier.later = later
    if (later === undefined) this.#last = earlier
    else later.earlier = earlier
    publish.earlier = publish.later = undefined
    if (this.#first !== undefined) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #expire(): void {
    const now = performance.now()
    for (let publish = this.#first; publish !== undefined && publish.deadline <= now; publish = this.#first) {
      publish.expire(this.#timeoutMs)
    }
    if (this.#first === undefined) return
    this.#timer = setTimeout(() => this.#expire(), Math.ceil(this.#first.deadline - now))
  }
}
