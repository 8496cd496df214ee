import { setTimeout as delay } from 'node:timers/promises'
import { acknowledge, type SessionReader, trySession } from '../session.ts'
import type { Random } from '../storm/random.ts'

export interface ConsumerSpec {
  name: string
  filter: string
  /** How it acknowledges: at once by POST, as it reconnects, or not at all. */
  by: 'post' | 'last-event-id' | 'auto'
}

export interface Processed {
  topic: string
  sequence: number
  redelivered: boolean
  /** Of the consumer's streams. */
  stream: number
  /** The stream began with all that the broker had, and its broker has not gone since: nothing can come late. */
  isUnbroken: boolean
}

export interface ConsumerOptions {
  spec: ConsumerSpec
  random: Random
  /** Of a bridge, whichever is up. */
  url(): string
  /** How likely it crashes over an event: before it has processed it, or before it has said so. */
  crashes(): number
}

const RETRY_MS = 20
/** How many events one that acknowledges by reconnecting takes before it does. */
const ROUND = 10

/**
 * A back end with a durable session: it processes, then acknowledges, crashes in between, and comes back. One that does
 * not acknowledge keeps in mind what it has processed, and where.
 */
export class Consumer {
  readonly spec: ConsumerSpec
  readonly processed: Processed[] = []
  readonly #options: ConsumerOptions
  crashes = 0
  /** Reasons of the gaps it was told of. */
  readonly gaps: string[] = []
  #streams = 0
  /** Where it was last: what it acknowledges by reconnecting is known there only. */
  #url: string | undefined
  #stopped = false
  #stream: SessionReader | undefined
  readonly #running: Promise<void>

  constructor(options: ConsumerOptions) {
    this.#options = options
    this.spec = options.spec
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#stream?.close()
    await this.#running
  }

  async #run(): Promise<void> {
    let lastEventId: string | undefined
    while (!this.#stopped) {
      lastEventId = await this.#connect(lastEventId).catch(() => {
        this.#url = undefined
        return lastEventId
      })
      await delay(RETRY_MS)
    }
  }

  /** One connection. Returns the event to continue behind; undefined where a crash forgot it. */
  async #connect(lastEventId: string | undefined): Promise<string | undefined> {
    const { spec, url } = this.#options
    const bridge = { url: (this.#url ??= url()) }
    const stream = await trySession(bridge, {
      name: spec.name,
      topics: [spec.filter],
      ack: spec.by === 'auto' ? 'auto' : 'explicit',
      lastEventId,
    })
    if (stream.status !== 200) return stream.status === 204 ? undefined : lastEventId
    const reader = (this.#stream = Object.assign(stream, { about: await stream.next() }))
    let done = reader.about.id
    this.#streams += 1
    let isUnbroken = lastEventId === undefined
    try {
      for (let events = 0; !this.#stopped && (spec.by !== 'last-event-id' || events < ROUND); events += 1) {
        const event = await reader.next()
        if (event.event === 'gap') this.gaps.push(event.data.reason)
        if (event.event !== 'message') {
          isUnbroken = false
          continue
        }
        if (this.#crash()) return this.#forget(done)
        const { topic, payload, redelivered = false } = event.data
        this.processed.push({ topic, sequence: Number(payload), redelivered, stream: this.#streams, isUnbroken })
        if (spec.by === 'auto') done = event.id
        if (this.#crash()) return this.#forget(done)
        done = event.id
        if (spec.by === 'post') await acknowledge(bridge, reader, event)
      }
      return done
    } catch {
      return done
    } finally {
      stream.close()
    }
  }

  #forget(done: string | undefined): string | undefined {
    if (this.spec.by === 'auto') return done
    this.#url = undefined
    return undefined
  }

  #crash(): boolean {
    const crashes = this.#options.random.chance(this.#options.crashes())
    if (crashes) this.crashes += 1
    return crashes
  }
}
