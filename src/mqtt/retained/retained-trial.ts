import { setTimeout as delay } from 'node:timers/promises'
import type { NetworkConnection } from '../client/network-connection.ts'
import type { Broker } from '../connection/broker.ts'
import type { MarkerLine, Markers } from '../markers.ts'

/** How long a broker may take to hand on one retained message before it is taken not to do so at all. */
const TRIAL_MS = 1000
const TRIP_MS = 20
/** How often the broker has to answer without it, however much time has passed: it may have been stopped meanwhile. */
const TRIPS_MIN = 10
/** After this the broker itself deletes what a bridge that was killed has left (MQTT 5). */
const EXPIRY_S = 86_400

/** Which filter a retained message is asked for with. */
export type FilterKind = 'exact' | 'wildcard'

/**
 * Finds out how a broker hands on retained messages, with one of its own below the marker topic. Where they may come
 * late, behind a marker that was published after the SUBSCRIBE, that message stays there, and each read asks for it,
 * too: it shows how late they come now.
 */
export class RetainedTrial {
  /** Whether the broker hands them on for filters with wildcards; undefined where that is not known. */
  wildcards: boolean | undefined
  readonly #broker: Broker
  readonly #line: MarkerLine
  readonly #topic: string
  readonly #parent: string
  #isLate = false
  #isDone = false
  /** The connection of the newest trial: an earlier trial that is still under way ends. */
  #network: NetworkConnection | undefined
  /** The broker has the message. */
  #isKept = false

  /** @param broker what is found out is noted there, for people */
  constructor(markers: Markers, line: MarkerLine, broker: Broker) {
    this.#broker = broker
    this.#line = line
    this.#parent = `${markers.topic}/retained`
    this.#topic = `${this.#parent}/1`
  }

  get isLate(): boolean {
    return this.#isLate
  }

  /** A retained message came behind a marker. */
  sawLate(): void {
    if (this.#isLate) return
    this.#isLate = true
    this.#note()
    void this.#keep()
  }

  /**
   * Tries it out, once for each link; again at each connection where wildcards did not seem to work. When the
   * connection is lost meanwhile nothing is known, and the next one tries it.
   * @param takesWildcards whether the broker takes filters with wildcards at all
   */
  async run(network: NetworkConnection, takesWildcards: boolean): Promise<void> {
    this.#isKept = false
    this.#network = network
    if (this.#isDone && this.wildcards !== false) {
      if (this.#isLate) await this.#keep()
      return
    }
    await this.#keep()
    const comes = await this.#comes(network, 'exact')
    if (comes === undefined) return
    if (comes && takesWildcards) {
      const comesForWildcard = await this.#comes(network, 'wildcard')
      if (comesForWildcard === undefined) return
      this.wildcards = comesForWildcard
    }
    this.#isDone = true
    this.#note()
    if (!this.#isLate) this.end()
  }

  /**
   * Subscribes to the message. Resolves when it comes, with the time of `performance.now`.
   * @returns undefined where the broker does not have it yet
   */
  watch(network: NetworkConnection, kind: FilterKind): Promise<number> | undefined {
    return this.#isKept ? this.#watch(network, kind) : undefined
  }

  /** The connection is lost: what is under way ends, as no marker can be sent, nor come. */
  lost(): void {
    this.#network = undefined
  }

  /** Deletes the message. */
  end(): void {
    if (!this.#isKept) return
    this.#isKept = false
    void this.#line.publish({ topic: this.#topic, retain: true, payload: Buffer.alloc(0) })
  }

  #note(): void {
    const { learnt } = this.#broker
    if (this.wildcards !== undefined) learnt.retainedForWildcards = this.wildcards
    learnt.retainedLate = this.#isLate
  }

  async #keep(): Promise<void> {
    const retained = { topic: this.#topic, retain: true, properties: { messageExpiryInterval: EXPIRY_S } }
    this.#isKept = await this.#line.publish({ ...retained, payload: Buffer.from('1') })
  }

  /**
   * Whether the message comes for such a filter. Notes that it comes late if it does.
   * @returns undefined where the connection was lost before that showed
   */
  async #comes(network: NetworkConnection, kind: FilterKind): Promise<boolean | undefined> {
    const endMs = performance.now() + TRIAL_MS
    let hasCome = false
    void this.#watch(network, kind).then(() => (hasCome = true))
    for (let trips = 0; performance.now() < endMs || trips < TRIPS_MIN; trips += 1) {
      if (this.#network !== network) return undefined
      const isAnswered = await this.#line.arrived(this.#line.source, this.#line.send())
      if (!isAnswered || this.#network !== network) return undefined
      if (hasCome && trips > 0) this.#isLate = true
      if (hasCome) return true
      await delay(TRIP_MS)
    }
    return false
  }

  #watch(network: NetworkConnection, kind: FilterKind): Promise<number> {
    const filter = kind === 'exact' ? this.#topic : `${this.#parent}/+`
    const came = new Promise<number>((resolve) => {
      const stop = this.#line.listen(({ topic, retain }) => {
        if (topic !== this.#topic || !retain) return
        stop()
        resolve(performance.now())
      })
    })
    // The next SUBSCRIBE with the filter makes the broker send it again.
    network.subscribe(filter, 1, { identifier: undefined, retained: 'always' }).catch(() => {})
    return came
  }
}
