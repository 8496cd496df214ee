import { setTimeout as delay } from 'node:timers/promises'
import { acknowledge, type SessionReader, trySession } from '../session.ts'
import type { Random } from '../storm/random.ts'

export interface ConsumerSpec {
  name: string
  filter: string
  /**
   * How it acknowledges: with a POST after each event, with the Last-Event-ID of a reconnect, or not at all, because
   * the bridge does it (`ack=auto`).
   */
  by: 'post' | 'last-event-id' | 'auto'
}

export interface Processed {
  topic: string
  sequence: number
  redelivered: boolean
  /** Which of the consumer's streams it came on, from 1. */
  stream: number
  /**
   * The stream was opened without a Last-Event-ID, and has had no `gap` and no `status` since. Then the broker sent
   * everything on one connection, in order.
   */
  isUninterrupted: boolean
}

export interface ConsumerOptions {
  spec: ConsumerSpec
  random: Random
  /** The URL of a bridge that is up. */
  url(): string
  /** That it crashes at an event, asked twice for each: before it processes it, and before it acknowledges it. */
  crashProbability(): number
}

const RETRY_MS = 20
/** Events after which a consumer that acknowledges by reconnecting does so. */
const EVENTS_PER_CONNECTION = 10

/**
 * A back end with a durable session. It processes each message, then acknowledges it, crashes in between, and
 * reconnects. After a crash it has forgotten which event was its last, unless the bridge acknowledges for it
 * (`ack=auto`): such a consumer stores the last event id with its results.
 */
export class Consumer {
  readonly spec: ConsumerSpec
  readonly processed: Processed[] = []
  readonly #options: ConsumerOptions
  crashes = 0
  /** Reasons of the `gap` events it got. */
  readonly gaps: string[] = []
  #streams = 0
  /** The bridge of the last connection: only that one knows the events which a Last-Event-ID acknowledges. */
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

  /** One connection. Returns the id of the event to continue after; undefined when a crash has forgotten it. */
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
    let isUninterrupted = lastEventId === undefined
    try {
      for (
        let events = 0;
        !this.#stopped && (spec.by !== 'last-event-id' || events < EVENTS_PER_CONNECTION);
        events += 1
      ) {
        const event = await reader.next()
        if (event.event === 'gap') this.gaps.push(event.data.reason)
        if (event.event !== 'message') {
          isUninterrupted = false
          continue
        }
        if (this.#crash()) return this.#forget(done)
        const { topic, payload, redelivered = false } = event.data
        this.processed.push({ topic, sequence: Number(payload), redelivered, stream: this.#streams, isUninterrupted })
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
    const crashes = this.#options.random.chance(this.#options.crashProbability())
    if (crashes) this.crashes += 1
    return crashes
  }
}
