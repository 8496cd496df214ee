import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Held } from '../memory/account.ts'
import type { Answer } from './endpoint.ts'
import { type Delivered, remainingMs, type RequestBody, requestBody } from './formats.ts'
import { retryDelayMs, type Verdict, verdictOf } from './retry.ts'
import { webhookHeaders } from './signature.ts'
import type { Target } from './target.ts'
import { TopicQueues } from './topic-queues.ts'

/** A message on its way to the endpoint. */
export interface Item extends Delivered {
  /** Counts the messages of the target. */
  sequence: number
  /** It may be acknowledged. */
  isDone: boolean
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

/** How one request ended. */
interface Tried {
  answer: Answer
  verdict: Verdict
  /** Undefined where nothing could be sent. */
  seconds: number | undefined
}

export interface DeliveryOptions {
  target: Target
  /** The `source` of CloudEvents. */
  source: string
  /** Calls `answered` once. */
  post(body: Buffer, headers: string[], answered: (answer: Answer) => void): void
  /** Pays for the bodies of open requests. */
  held: Held
  /**
   * The message will never be delivered. Resolves once it may be acknowledged. Rejects only if the signal, by which it
   * has to end, is aborted.
   */
  failed(item: Item, failure: Failure, signal: AbortSignal): Promise<void>
  /** A message is done. */
  done(): void
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
  /** Messages that no request has yet. */
  readonly #queues = new TopicQueues<Item>()
  readonly #fixedHeaders: readonly string[]
  #requests = 0
  /** Set while the endpoint is gone. */
  #resume: (() => void) | undefined
  #resumed: Promise<void> = Promise.resolve()
  /** The endpoint asked not to be called before, as `performance.now()`. */
  #notBefore = 0
  /** No request begins any more. */
  #isEnding = false
  readonly #ending = new AbortController()
  #idle: (() => void) | undefined

  constructor(options: DeliveryOptions) {
    this.#options = options
    const fixed = Object.entries(options.target.headers)
    const hasAgent = fixed.some(([name]) => name.toLowerCase() === 'user-agent')
    this.#fixedHeaders = [...(hasAgent ? [] : ['user-agent', 'causeway']), ...fixed.flat()]
    // Each request may wait with it.
    setMaxListeners(0, this.#ending.signal)
  }

  /** Whether the endpoint is gone. */
  get isPaused(): boolean {
    return this.#resume !== undefined
  }

  add(item: Item): void {
    if (this.#isEnding) return
    this.#queues.add(item)
    this.#next()
  }

  /** Goes on after the endpoint was gone. */
  resume(): void {
    this.#resume?.()
    this.#resume = undefined
  }

  /**
   * Begins no more requests and forgets all messages that no open request has. Those do not become done. Resolves once
   * the open requests are answered.
   */
  async end(): Promise<void> {
    this.#isEnding = true
    this.#ending.abort()
    this.#queues.clear()
    this.resume()
    if (this.#requests > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  #next(): void {
    const { concurrency, batch } = this.#options.target
    while (this.#requests < concurrency && this.#resume === undefined && !this.#isEnding) {
      const items = this.#queues.take(batch)
      if (items.length === 0) return
      this.#begin(items)
    }
  }

  /** A request that succeeds at once takes no promise: these took a fifth of the time of a delivery. */
  #begin(items: Item[]): void {
    this.#requests += 1
    const id = items.length === 1 ? items[0]!.id : newId()
    const nowMs = Date.now()
    if (this.#notBefore > performance.now() || items.some((item) => remainingMs(item, nowMs) <= 0)) {
      return void this.#deliverAll(items, id)
    }
    this.#post(items, id, (tried) => {
      if (tried.verdict !== 'delivered') return void this.#deliverAll(items, id, tried)
      try {
        this.#delivered(items, tried)
      } catch (error) {
        this.#options.events.fault(error)
      }
      this.#end(items)
    })
  }

  /** @param first how the first try ended, if there was one */
  async #deliverAll(items: Item[], id: string, first?: Tried): Promise<void> {
    try {
      await this.#deliver(items, id, first)
    } catch (error) {
      // Otherwise a wait was ended.
      if (!this.#ending.signal.aborted) this.#options.events.fault(error)
    }
    this.#end(items)
  }

  #end(items: Item[]): void {
    this.#queues.release(items)
    this.#requests -= 1
    if (this.#requests === 0) this.#idle?.()
    this.#next()
  }

  /** Delivers messages in one request, tried until there is an outcome. */
  async #deliver(items: Item[], id: string, first?: Tried): Promise<void> {
    const { target, events } = this.#options
    let waiting = items
    let tried = first
    for (let tries = 1; ; tried = undefined) {
      if (tried === undefined) {
        await this.#mayCall()
        waiting = await this.#withoutExpired(waiting)
        if (waiting.length === 0) return
        tried = await new Promise<Tried>((resolve) => this.#post(waiting, id, resolve))
      }
      const { verdict, seconds } = tried
      const { status, reason, retryAfterMs } = tried.answer
      if (verdict === 'delivered') return this.#delivered(waiting, tried)
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
      if (retryAfterMs !== undefined) this.#notBefore = performance.now() + retryAfterMs
      await this.#wait(retryDelayMs(tries, target.retryMaxMs))
      tries += 1
    }
  }

  #delivered(items: Item[], { seconds }: Tried): void {
    const { events, done } = this.#options
    events.succeeded()
    events.outcome('delivered', items.length, seconds)
    for (const item of items) item.isDone = true
    done()
  }

  async #deliverHalves(items: Item[]): Promise<void> {
    const middle = Math.ceil(items.length / 2)
    for (const half of [items.slice(0, middle), items.slice(middle)]) {
      await this.#deliver(half, half.length === 1 ? half[0]!.id : newId())
    }
  }

  #post(items: Item[], id: string, ended: (tried: Tried) => void): void {
    const { target, source, held, post } = this.#options
    const nowMs = Date.now()
    let request: RequestBody
    try {
      request = requestBody(items, { format: target.format, isBatch: target.batch > 1, source, nowMs })
    } catch (error) {
      const reason = `it cannot be written as ${target.format}: ${(error as Error).message}`
      const answer = { status: undefined, retryAfterMs: undefined, reason }
      return ended({ answer, verdict: 'rejected', seconds: undefined })
    }
    const { body, headers } = request
    const startedAt = performance.now()
    held.growAnyway(body.length)
    const signed = webhookHeaders(id, body, target.keys, nowMs)
    post(body, [...without(this.#fixedHeaders, headers), ...headers, ...signed], (answer) => {
      held.shrink(body.length)
      const seconds = (performance.now() - startedAt) / 1000
      ended({ answer, verdict: verdictOf(answer.status), seconds })
    })
  }

  async #fail(items: Item[], failure: Failure, seconds: number | undefined): Promise<void> {
    this.#options.events.outcome(failure.outcome, items.length, seconds)
    for (const item of items) {
      await this.#options.failed(item, failure, this.#ending.signal)
      item.isDone = true
      this.#options.done()
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

/** The headers but those that others replace, such as a `traceparent`. Each has names and values in turn. */
function without(headers: readonly string[], others: readonly string[]): readonly string[] {
  const isReplaced = (name: string) => others.some((other, index) => index % 2 === 0 && other === name.toLowerCase())
  // Mostly there is only the content type, which no target sets.
  return others.length === 2 ? headers : headers.filter((_, index) => !isReplaced(headers[index - (index % 2)]!))
}

/** A `webhook-id` for a batch. */
function newId(): string {
  return `msg_${randomUUID()}`
}
