import { setTimeout as delay } from 'node:timers/promises'
import type { MarkerLine, Markers } from '../markers.ts'
import type { NetworkConnection } from '../client/network-connection.ts'

/** How long a broker may take to hand on one retained message before it is taken not to do so at all. */
const TRIAL_MS = 1000
const TRIP_MS = 20
/** After this the broker itself deletes what a bridge that was killed has left (MQTT 5). */
const EXPIRY_S = 60

/** Which filter a retained message is asked for with. */
export type FilterKind = 'exact' | 'wildcard'

/** Tries out how a broker hands on retained messages, with some of its own below the marker topic. */
export class RetainedTrial {
  /** Whether it hands them on for filters with wildcards; undefined where that is not known. */
  wildcards: boolean | undefined
  /** They may come behind a marker that was published after the SUBSCRIBE. */
  isLate = false
  readonly #markers: Markers
  readonly #line: MarkerLine
  #isDone = false
  #count = 0

  constructor(markers: Markers, line: MarkerLine) {
    this.#markers = markers
    this.#line = line
  }

  /**
   * Tries it out, once for each link.
   * @param wildcards whether the broker takes filters with wildcards at all
   */
  async run(network: NetworkConnection, wildcards: boolean): Promise<void> {
    if (this.#isDone) return
    const exact = this.#ask(network, 'exact')
    const wildcard = wildcards ? this.#ask(network, 'wildcard') : undefined
    const asked = [exact, ...(wildcard === undefined ? [] : [wildcard])]
    const endMs = performance.now() + TRIAL_MS
    const allCame = (): boolean => asked.every(({ hasCome }) => hasCome())
    try {
      await Promise.all(asked.map(({ subscribed }) => subscribed))
      for (let trips = 1; ; trips += 1) {
        if (!(await this.#line.arrived(this.#line.source, this.#line.send()))) return
        if (allCame()) {
          if (trips > 1) this.isLate = true
          break
        }
        if (performance.now() > endMs) break
        await delay(TRIP_MS)
      }
    } finally {
      for (const one of asked) one.end()
    }
    this.#isDone = true
    if (exact.hasCome() && wildcard !== undefined) this.wildcards = wildcard.hasCome()
  }

  /**
   * Resolves with the milliseconds that a retained message takes to come.
   * @param kind the filter to ask for it with
   */
  async timeOf(network: NetworkConnection, kind: FilterKind): Promise<number> {
    const startMs = performance.now()
    const asked = this.#ask(network, kind)
    try {
      await asked.came
      return performance.now() - startMs
    } finally {
      asked.end()
    }
  }

  /** Retains a message and subscribes to it. */
  #ask(network: NetworkConnection, kind: FilterKind) {
    this.#count += 1
    const parent = `${this.#markers.topic}/${this.#count}`
    const topic = `${parent}/retained`
    const filter = kind === 'exact' ? topic : `${parent}/+`
    let hasCome = false
    let resolve!: () => void
    const came = new Promise<void>((done) => (resolve = done))
    const stop = this.#line.listen(({ topic: from, retain }) => {
      if (from !== topic || !retain) return
      hasCome = true
      resolve()
    })
    const retained = { topic, retain: true, properties: { messageExpiryInterval: EXPIRY_S } }
    const subscribed = this.#line.publish({ ...retained, payload: Buffer.from('1') }).then(async () => {
      await network.subscribe(filter, 1, { identifier: undefined, retained: 'always' }).catch(() => {})
    })
    return {
      came,
      subscribed,
      hasCome: () => hasCome,
      end: (): void => {
        stop()
        void subscribed.then(() => network.unsubscribe(filter).catch(() => {}))
        void this.#line.publish({ topic, retain: true, payload: Buffer.alloc(0) })
      },
    }
  }
}
