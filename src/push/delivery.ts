import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Held } from '../memory/account.ts'
import type { Answer } from './endpoint.ts'
import { type Delivered, remainingMs, type RequestBody, requestBody } from './formats.ts'
import { retryDelayMs, verdictOf } from './retry.ts'
import { webhookHeaders } from './signature.ts'
import type { Target } from './target.ts'

/** A message on its way to the endpoint. */
export interface Item extends Delivered {
  /** Counts the messages of the target. */
  sequence: number
}

/** How a try ended, for the metrics. */
export const PUSH_OUTCOMES = [
  'delivered',
  /** The request is tried again. */
  'retried',
  /** The endpoint refused the message. */
  'rejected',
  /** It was tried often enough, or has expired. */
  'given_up',
] as const

export type PushOutcome = (typeof PUSH_OUTCOMES)[number]

/** Why a message will never be delivered. */
export interface Failure {
  outcome: 'rejected' | 'given_up'
  /** The last answer's; undefined where there was none. */
  status: number | undefined
  reason: string
}

export interface DeliveryOptions {
  target: Target
  /** The `source` of CloudEvents. */
  source: string
  /** Never rejects. */
  post(body: Buffer, headers: Record<string, string>): Promise<Answer>
  /** Pays for the bodies of open requests. */
  held: Held
  /**
   * The message will never be delivered. Resolves once it may be acknowledged. Rejects only if the signal, by which it
   * has to end, is aborted.
   */
  failed(item: Item, failure: Failure, signal: AbortSignal): Promise<void>
  /** The message may be acknowledged. */
  done(item: Item): void
  events: {
    /** So many messages had this outcome. `seconds` is the time of the request; undefined where there was none. */
    outcome(outcome: PushOutcome, messages: number, seconds: number | undefined): void
    /** A request has succeeded. */
    succeeded(): void
    /** A request has failed, and is tried again. */
    failing(reason: string): void
    /** The endpoint is gone: nothing more is sent until `resume`. */
    gone(reason: string): void
    /** An unexpected error. The messages of that request are not done. */
    fault(error: unknown): void
  }
}

/**
 * Delivers the messages of one target. So many requests as `concurrency` says are open or wait for their next try: an
 * endpoint that fails gets no more requests than one that is well. Messages of one topic are delivered one after the
 * other, in the order in which they came, or together in one batch.
 */
export class Delivery {
  readonly #options: DeliveryOptions
  /** Messages that no request has yet, in order of arrival. */
  #queue: Item[] = []
  /** Topics of the messages that a request has. */
  readonly #busy = new Set<string>()
  #requests = 0
  /** Set while the endpoint is gone. */
  #resume: (() => void) | undefined
  #resumed: Promise<void> = Promise.resolve()
  /** The endpoint asked not to be called before, as `performance.now()`. */
  #notBefore = 0
  /** No request begins any more. */
  readonly #ending = new AbortController()
  #idle: (() => void) | undefined

  constructor(options: DeliveryOptions) {
    this.#options = options
    // Each request may wait with it.
    setMaxListeners(0, this.#ending.signal)
  }

  /** Whether the endpoint is gone. */
  get isPaused(): boolean {
    return this.#resume !== undefined
  }

  add(item: Item): void {
    if (this.#ending.signal.aborted) return
    this.#queue.push(item)
    this.#next()
  }

  /** Goes on after the endpoint was gone. */
  resume(): void {
    this.#resume?.()
    this.#resume = undefined
  }

  /**
   * Begins no more requests and forgets all messages that no open request has. Those are not `done`. Resolves once the
   * open requests are answered.
   */
  async end(): Promise<void> {
    this.#ending.abort()
    this.#queue = []
    this.resume()
    if (this.#requests > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  #next(): void {
    const { concurrency } = this.#options.target
    while (this.#requests < concurrency && this.#resume === undefined) {
      const items = this.#take()
      if (items.length === 0) return
      void this.#run(items)
    }
  }

  /** The oldest messages that may go now, as many as one request takes. */
  #take(): Item[] {
    const { batch } = this.#options.target
    const taken: Item[] = []
    const isFree = ({ message }: Item) => !this.#busy.has(message.topic)
    // Mostly the first ones may go.
    let count = 0
    while (count < batch && count < this.#queue.length && isFree(this.#queue[count]!)) count += 1
    taken.push(...this.#queue.splice(0, count))
    for (let index = 0; taken.length < batch && index < this.#queue.length;) {
      if (isFree(this.#queue[index]!)) taken.push(...this.#queue.splice(index, 1))
      else index += 1
    }
    return taken
  }

  async #run(items: Item[]): Promise<void> {
    const topics = new Set(items.map(({ message }) => message.topic))
    for (const topic of topics) this.#busy.add(topic)
    this.#requests += 1
    try {
      await this.#deliver(items)
    } catch (error) {
      // Otherwise a wait was ended.
      if (!this.#ending.signal.aborted) this.#options.events.fault(error)
    } finally {
      for (const topic of topics) this.#busy.delete(topic)
      this.#requests -= 1
      if (this.#requests === 0) this.#idle?.()
    }
    this.#next()
  }

  /** Delivers messages in one request, tried until there is an outcome. */
  async #deliver(items: Item[]): Promise<void> {
    const { target, events } = this.#options
    const id = items.length === 1 ? items[0]!.id : newId()
    let waiting = items
    for (let tries = 1; ;) {
      await this.#mayCall()
      waiting = await this.#withoutExpired(waiting)
      if (waiting.length === 0) return
      const { answer, seconds } = await this.#post(waiting, id)
      const { status, reason } = answer
      const verdict = answer.isUnwritable ? 'rejected' : verdictOf(status)
      if (verdict === 'delivered') {
        events.succeeded()
        events.outcome('delivered', waiting.length, seconds)
        for (const item of waiting) this.#options.done(item)
        return
      }
      if (verdict === 'rejected') {
        // One message that the endpoint refuses must not take the others of its batch with it.
        if (waiting.length > 1) return this.#deliverHalves(waiting)
        return this.#fail(waiting, { outcome: 'rejected', status, reason }, seconds)
      }
      if (verdict === 'gone') {
        this.#pause(reason)
        continue
      }
      if (target.attempts > 0 && tries >= target.attempts) {
        return this.#fail(waiting, { outcome: 'given_up', status, reason }, seconds)
      }
      events.outcome('retried', waiting.length, seconds)
      events.failing(reason)
      if (answer.retryAfterMs !== undefined) this.#notBefore = performance.now() + answer.retryAfterMs
      await this.#wait(retryDelayMs(tries, target.retryMaxMs))
      tries += 1
    }
  }

  async #deliverHalves(items: Item[]): Promise<void> {
    const middle = Math.ceil(items.length / 2)
    await this.#deliver(items.slice(0, middle))
    await this.#deliver(items.slice(middle))
  }

  async #post(
    items: Item[],
    id: string,
  ): Promise<{ answer: Answer & { isUnwritable?: boolean }; seconds: number | undefined }> {
    const { target, source, held, post } = this.#options
    let request: RequestBody
    try {
      request = requestBody(items, { format: target.format, isBatch: target.batch > 1, source, nowMs: Date.now() })
    } catch (error) {
      const reason = `it cannot be written as ${target.format}: ${(error as Error).message}`
      return { answer: { status: undefined, retryAfterMs: undefined, reason, isUnwritable: true }, seconds: undefined }
    }
    const { body, headers } = request
    const startedAt = performance.now()
    held.growAnyway(body.length)
    try {
      const signed = webhookHeaders(id, body, target.keys, Date.now())
      const answer = await post(body, { 'user-agent': 'causeway', ...target.headers, ...headers, ...signed })
      return { answer, seconds: (performance.now() - startedAt) / 1000 }
    } finally {
      held.shrink(body.length)
    }
  }

  async #fail(items: Item[], failure: Failure, seconds: number | undefined): Promise<void> {
    this.#options.events.outcome(failure.outcome, items.length, seconds)
    for (const item of items) {
      await this.#options.failed(item, failure, this.#ending.signal)
      this.#options.done(item)
    }
  }

  async #withoutExpired(items: Item[]): Promise<Item[]> {
    const nowMs = Date.now()
    const expired = items.filter((item) => remainingMs(item, nowMs) <= 0)
    if (expired.length === 0) return items
    await this.#fail(expired, { outcome: 'given_up', status: undefined, reason: 'it has expired' }, undefined)
    return items.filter((item) => !expired.includes(item))
  }

  #pause(reason: string): void {
    if (this.#resume !== undefined || this.#ending.signal.aborted) return
    this.#resumed = new Promise<void>((resolve) => (this.#resume = resolve)).then(() => this.#next())
    this.#options.events.gone(reason)
  }

  /** Waits until the endpoint may be called. */
  async #mayCall(): Promise<void> {
    while (this.#resume !== undefined) await this.#resumed
    for (let ms = this.#notBefore - performance.now(); ms > 0; ms = this.#notBefore - performance.now()) {
      await this.#wait(ms)
    }
    this.#ending.signal.throwIfAborted()
  }

  #wait(ms: number): Promise<void> {
    return delay(Math.ceil(ms), undefined, { signal: this.#ending.signal })
  }
}

/** An id for `webhook-id`. */
export function newId(): string {
  return `msg_${randomUUID()}`
}
