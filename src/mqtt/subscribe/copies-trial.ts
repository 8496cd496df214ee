import type { NetworkConnection } from '../client/network-connection.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { MarkerLine, Markers } from '../markers.ts'
import { withTimeout } from '../with-timeout.ts'
import type { Identifiers } from './identifiers.ts'

export type Copies = NonNullable<Learnt['copies']>

/** Tries out how copies come, with two filters of its own that overlap. */
export class CopiesTrial {
  readonly #markers: Markers
  readonly #line: MarkerLine
  readonly #identifiers: Identifiers
  readonly #timeoutMs: number

  constructor(markers: Markers, line: MarkerLine, identifiers: Identifiers, timeoutMs: number) {
    this.#markers = markers
    this.#line = line
    this.#identifiers = identifiers
    this.#timeoutMs = timeoutMs
  }

  /** Undefined where the message does not come, so nothing is known. */
  async run(network: NetworkConnection): Promise<Copies | undefined> {
    const topic = `${this.#markers.topic}/copies`
    const filters = [topic, `${this.#markers.topic}/+`]
    const identifiers = filters.map(() => this.#identifiers.take())
    const copies: (readonly number[])[] = []
    const stop = this.#line.listen((message, seen) => message.topic === topic && copies.push(seen))
    try {
      await withTimeout(
        Promise.all(
          filters.map((filter, index) =>
            network.subscribe(filter, 1, { identifier: identifiers[index], retained: 'never' }),
          ),
        ),
        this.#timeoutMs,
      )
      void this.#line.publish({ topic, payload: Buffer.alloc(0) })
      // Brokers that mix the order may send a copy behind the first marker.
      for (let trips = 0; trips < 2; trips += 1) {
        await withTimeout(this.#line.arrived(this.#line.source, this.#line.send()), this.#timeoutMs)
      }
      return judge(copies)
    } catch {
      return undefined
    } finally {
      stop()
      for (const filter of filters) network.unsubscribe(filter).catch(() => {})
      for (const identifier of identifiers) this.#identifiers.give(identifier)
    }
  }
}

function judge(copies: readonly (readonly number[])[]): Copies | undefined {
  if (copies.length === 0) return undefined
  const seen = new Set(copies.flat())
  const isOneWithAll = copies.length === 1 && seen.size === 2
  const isOneEach = copies.length === 2 && seen.size === 2 && copies.every(({ length }) => length === 1)
  return isOneWithAll || isOneEach ? 'told-apart' : 'mixed'
}
