import { setTimeout as delay } from 'node:timers/promises'
import { acknowledge, type SessionReader, trySession } from '../session.ts'
import type { Random } from '../storm/random.ts'

export interface ConsumerSpec {
  name: string
  filter: string
  /** How it acknowledges: at once by POST, or as it reconnects. */
  by: 'post' | 'last-event-id'
}

export interface Processed {
  topic: string
  sequence: number
  redelivered: boolean
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

/** A back end with a durable session: it processes, then acknowledges, crashes in between, and comes back. */
export class Consumer {
  readonly spec: ConsumerSpec
  readonly processed: Processed[] = []
  readonly #options: ConsumerOptions
  crashes = 0
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

  /** One connection. Returns the event to continue behind; undefined after a crash, which forgets it. */
  async #connect(lastEventId: string | undefined): Promise<string | undefined> {
    const { spec, url } = this.#options
    const bridge = { url: (this.#url ??= url()) }
    const stream = await trySession(bridge, { name: spec.name, topics: [spec.filter], ack: 'explicit', lastEventId })
    if (stream.status !== 200) return stream.status === 204 ? undefined : lastEventId
    const reader = (this.#stream = Object.assign(stream, { about: await stream.next() }))
    let done = reader.about.id
    try {
      for (let events = 0; !this.#stopped && (spec.by === 'post' || events < ROUND); events += 1) {
        const event = await reader.next()
        if (event.event !== 'message') continue
        if (this.#crash()) return this.#forget()
        const { topic, payload, redelivered = false } = event.data
        this.processed.push({ topic, sequence: Number(payload), redelivered })
        if (this.#crash()) return this.#forget()
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

  #forget(): undefined {
    this.#url = undefined
  }

  #crash(): boolean {
    const crashes = this.#options.random.chance(this.#options.crashes())
    if (crashes) this.crashes += 1
    return crashes
  }
}
