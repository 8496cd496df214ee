import { problemIn } from './api.ts'
import { Lines } from './lines.ts'
import type { Message } from './message.ts'
import { problemText } from './message.ts'

/** One line of a stream in NDJSON. */
export type StreamEvent =
  | { event: 'message'; id: string; data: Message }
  | { event: 'gap'; id?: string; data: { reason: string; dropped?: number } }
  | { event: 'status'; id?: string; data: { broker?: string; [name: string]: unknown } }
  | { event: 'heartbeat' }

export interface StreamHandlers {
  event(event: StreamEvent): void
  /** The stream is open. `awaySeconds` is for how long there was none; undefined for the first one. */
  opened(awaySeconds: number | undefined): void
  /** There is none, and it is tried again after this time. */
  waiting(why: string, delayMs: number): void
  /** It was refused for good: the same request would be refused again. */
  refused(why: string): void
}

export interface StreamOptions {
  /** As `Api.fetch`. */
  fetch(path: string, init: RequestInit): Promise<Response>
  /** The query of `GET /subscribe`. */
  query: string
  /** Interval of heartbeats. A stream on which nothing comes for three of them is given up. */
  heartbeatMs: number
  handlers: StreamHandlers
}

const FIRST_DELAY_MS = 500
const DELAY_MAX_MS = 10_000
/** Longest time of work before the page may do something else: less than a frame. */
const SLICE_MS = 8

/** Follows topics until it is stopped. Comes back by itself, behind the last event that it had. */
export class Stream {
  readonly #options: StreamOptions
  readonly #stopped = new AbortController()
  #lastId: string | undefined
  #lostAt: number | undefined
  #failures = 0
  /** Ends the wait for the next attempt. */
  #wake = () => {}
  readonly #channel = new MessageChannel()

  constructor(options: StreamOptions) {
    this.#options = options
    void this.#run().finally(() => this.#channel.port1.close())
  }

  stop(): void {
    this.#stopped.abort()
    this.#wake()
  }

  /** Tries again at once, if it waits for that. */
  retryNow(): void {
    this.#wake()
  }

  get #isStopped(): boolean {
    return this.#stopped.signal.aborted
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const outcome = await this.#follow()
      if (this.#isStopped) return
      const { handlers } = this.#options
      if (outcome.isFinal) return handlers.refused(outcome.why)
      this.#lostAt ??= performance.now()
      const delayMs = outcome.delayMs ?? this.#backoffMs()
      this.#failures += 1
      handlers.waiting(outcome.why, delayMs)
      await this.#sleep(delayMs)
    }
  }

  /** Opens one stream and reads it to its end. */
  async #follow(): Promise<{ why: string; isFinal?: boolean; delayMs?: number | undefined }> {
    const { query, handlers, heartbeatMs } = this.#options
    const attempt = new AbortController()
    const abort = () => attempt.abort()
    this.#stopped.signal.addEventListener('abort', abort)
    let silence: ReturnType<typeof setTimeout> | undefined
    const restartSilence = () => {
      clearTimeout(silence)
      silence = setTimeout(abort, 3 * heartbeatMs)
    }
    try {
      const headers = {
        accept: 'application/x-ndjson',
        ...(this.#lastId !== undefined && { 'last-event-id': this.#lastId }),
      }
      const answer = await this.#options.fetch(`subscribe?${query}`, { headers, signal: attempt.signal })
      if (answer.status !== 200) return await whyRefused(answer)
      handlers.opened(this.#lostAt === undefined ? undefined : (performance.now() - this.#lostAt) / 1000)
      this.#lostAt = undefined
      this.#failures = 0
      const lines = new Lines()
      const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
      restartSilence()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return { why: 'the stream ended' }
        restartSilence()
        await this.#take(lines.push(value))
      }
    } catch {
      const isSilent = attempt.signal.aborted && !this.#isStopped
      return { why: isSilent ? 'nothing came any more' : 'the bridge cannot be reached' }
    } finally {
      clearTimeout(silence)
      this.#stopped.signal.removeEventListener('abort', abort)
      // Ends the request where it was left before its end.
      abort()
    }
  }

  /** While lines wait here nothing is read, so the bridge notices a page that is too slow, and writes a gap. */
  async #take(lines: readonly string[]): Promise<void> {
    let startedAt = performance.now()
    for (const line of lines) {
      if (this.#isStopped) return
      if (line === '') continue
      const event = JSON.parse(line) as StreamEvent
      if ('id' in event && event.id !== undefined) this.#lastId = event.id
      this.#options.handlers.event(event)
      if (performance.now() - startedAt < SLICE_MS) continue
      await this.#turn()
      startedAt = performance.now()
    }
  }

  #backoffMs(): number {
    const delayMs = Math.min(FIRST_DELAY_MS * 2 ** this.#failures, DELAY_MAX_MS)
    return delayMs * (0.75 + Math.random() / 2)
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Lets the page do something else. Unlike a timer, it does not wait for a second where the page is not in view. */
  #turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#channel.port1.onmessage = () => resolve()
      this.#channel.port2.postMessage(undefined)
    })
  }
}

async function whyRefused(answer: Response): Promise<{ why: string; isFinal: boolean; delayMs: number | undefined }> {
  const problem = await problemIn(answer)
  const retryAfter = Number(answer.headers.get('retry-after') ?? Number.NaN)
  return {
    why: `${answer.status} ${problemText(problem)}`,
    // What is no problem document comes from something in between, such as a proxy whose bridge restarts.
    isFinal: answer.status < 500 && answer.status !== 408 && answer.status !== 429 && problem.retryable !== true,
    delayMs: Number.isNaN(retryAfter) ? undefined : Math.min(Math.max(retryAfter * 1000, 500), DELAY_MAX_MS),
  }
}
