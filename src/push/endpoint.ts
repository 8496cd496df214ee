import type { IncomingHttpHeaders } from 'node:http'
import { rootCertificates } from 'node:tls'
import { type Dispatcher, errors, Pool } from 'undici'
import { systemFault } from '../mqtt/connection/system-fault.ts'
import { tlsFault } from '../mqtt/connection/tls-fault.ts'
import { retryAfterMs } from './retry.ts'

export interface EndpointOptions {
  url: string
  /** Most connections, and so requests at once. */
  connections: number
  /** For one request, from the look-up of the host's name to the end of the answer. */
  timeoutMs: number
  /** Connections that are used all the time are replaced after so long, so that a changed address is noticed. */
  connectionMs: number
  /** Certificates of further authorities in PEM. Those that Node trusts are trusted too. */
  ca: string | undefined
}

export interface Answer {
  /** Undefined where no whole answer came. */
  status: number | undefined
  /** How long the endpoint asks to wait. */
  retryAfterMs: number | undefined
  /** For people: what was answered, or why nothing was. */
  reason: string
}

/** What is read of an answer's body. Of a longer one only the status counts. */
const ANSWER_BYTES_MAX = 1_048_576

/** One URL that is posted to, over connections of its own that are kept open. Redirects are not followed. */
export class Endpoint {
  readonly #origin: string
  readonly #options: Pool.Options
  readonly #path: string
  readonly #timeoutMs: number
  readonly #connectionMs: number
  #pool: Pool
  /** As `performance.now()`. undici's own limit for a connection reads the clock for each one at each request. */
  #replaceAt: number
  /** Pools that were replaced, until their last request has ended. */
  readonly #replaced = new Set<Pool>()
  readonly #open = new OpenRequests()
  /** One timer for all of them. A timer and an AbortSignal for each took a seventh of the time of a delivery. */
  #timer: NodeJS.Timeout | undefined

  constructor({ url, connections, timeoutMs, connectionMs, ca }: EndpointOptions) {
    const { origin, pathname, search } = new URL(url)
    this.#path = pathname + search
    this.#timeoutMs = timeoutMs
    this.#connectionMs = connectionMs
    this.#origin = origin
    this.#options = {
      connections,
      // HTTP/2 stays off, as it is by default: undici 7.30 takes an answer for whole whose stream was cut off.
      // The whole request has one limit.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: timeoutMs, ...(ca !== undefined && { ca: [...rootCertificates, ca] }) },
    }
    this.#pool = new Pool(origin, this.#options)
    this.#replaceAt = performance.now() + this.#connectionMs
  }

  /**
   * Posts once. `answered` is called once, with the answer or with why there is none.
   * @param headers names and values in turn
   */
  post(body: Buffer, headers: string[], answered: (answer: Answer) => void): void {
    const now = performance.now()
    if (now > this.#replaceAt) this.#replacePool()
    const request = new PostRequest(this.#open, now + this.#timeoutMs, answered)
    this.#timer ??= setTimeout(this.#endLate, this.#timeoutMs)
    this.#pool.dispatch({ path: this.#path, method: 'POST', headers, body }, request)
  }

  /** Aborts the requests that are open. */
  async close(): Promise<void> {
    this.#replaceAt = Infinity
    clearTimeout(this.#timer)
    for (const request of this.#open) request.abort('it was ended here')
    await Promise.all([this.#pool, ...this.#replaced].map((pool) => pool.destroy()))
  }

  /** The next requests have new connections. */
  #replacePool(): void {
    const pool = this.#pool
    this.#replaced.add(pool)
    void pool.close().then(
      () => this.#replaced.delete(pool),
      // It was destroyed.
      () => {},
    )
    this.#pool = new Pool(this.#origin, this.#options)
    this.#replaceAt = performance.now() + this.#connectionMs
  }

  /** Aborts the requests whose time is over, and waits for the next one. */
  readonly #endLate = (): void => {
    const now = performance.now()
    let next = Infinity
    for (const request of this.#open) {
      if (request.endsAt <= now) request.abort(`no whole answer came within ${this.#timeoutMs} ms`)
      else next = Math.min(next, request.endsAt)
    }
    this.#timer = next === Infinity ? undefined : setTimeout(this.#endLate, Math.ceil(next - now))
  }
}

/**
 * The requests that are open. Not a Set: V8 chains the tables that a Set has had, so one of them in the old generation
 * keeps all later ones alive, with their requests, until the next collection of that. At 10,000 requests/s that was
 * 100 MB of garbage, and a sixth of the time of a delivery.
 */
class OpenRequests {
  readonly #slots: (PostRequest | undefined)[] = []
  readonly #free: number[] = []

  /** @returns where it is, for `delete` */
  add(request: PostRequest): number {
    const slot = this.#free.pop() ?? this.#slots.length
    this.#slots[slot] = request
    return slot
  }

  delete(slot: number): void {
    this.#slots[slot] = undefined
    this.#free.push(slot)
  }

  *[Symbol.iterator](): Generator<PostRequest> {
    for (const request of this.#slots) if (request !== undefined) yield request
  }
}

/** One request, as undici sees it. */
class PostRequest implements Dispatcher.DispatchHandler {
  /** As `performance.now()`. */
  readonly endsAt: number
  readonly #open: OpenRequests
  readonly #slot: number
  #isOpen = true
  readonly #answered: (answer: Answer) => void
  #controller: Dispatcher.DispatchController | undefined
  /** Why it was aborted here. */
  #abortReason: string | undefined
  #status = 0
  #retryAfter: string | undefined
  #bodyBytes = 0

  /** @param open where it is until it has ended */
  constructor(open: OpenRequests, endsAt: number, answered: (answer: Answer) => void) {
    this.endsAt = endsAt
    this.#open = open
    this.#answered = answered
    this.#slot = open.add(this)
  }

  /** Before it has a connection, undici ends it when none could be made in time. */
  abort(reason: string): void {
    this.#abortReason ??= reason
    this.#controller?.abort(new Error(reason))
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#abortReason !== undefined) this.abort(this.#abortReason)
  }

  /** Also called for 1xx, before the answer itself. */
  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    this.#status = status
    const retryAfter = headers['retry-after']
    this.#retryAfter = typeof retryAfter === 'string' ? retryAfter : undefined
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bodyBytes += chunk.length
    if (this.#bodyBytes <= ANSWER_BYTES_MAX) return
    this.onResponseEnd()
    controller.abort(new Error('the rest of the answer is not read'))
  }

  onResponseEnd(): void {
    const status = this.#status
    this.#settle({ status, retryAfterMs: retryAfterMs(this.#retryAfter, Date.now()), reason: `it answered ${status}` })
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#settle({ status: undefined, retryAfterMs: undefined, reason: this.#abortReason ?? faultOf(error) })
  }

  #settle(answer: Answer): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#open.delete(this.#slot)
    this.#answered(answer)
  }
}

/** What undici's own errors mean. */
const FAULTS: Record<string, string> = {
  UND_ERR_CONNECT_TIMEOUT: 'no connection could be made in time',
  UND_ERR_SOCKET: 'the connection was closed before the whole answer had come',
  UND_ERR_HEADERS_OVERFLOW: 'the headers of its answer are too large',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'its answer is not as long as it says',
}

/** What went wrong, in words. */
function faultOf(error: unknown): string {
  const code = codeOf(error)
  if (error instanceof errors.HTTPParserError) return `its answer is not HTTP (${code})`
  const words = tlsFault(code) ?? systemFault(code) ?? FAULTS[code]
  if (words !== undefined) return `${words} (${code})`
  return error instanceof Error && error.message !== '' ? error.message : code
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code } = error as NodeJS.ErrnoException
  if (typeof code === 'string' && !(code === 'UND_ERR_SOCKET' && error.cause instanceof Error)) return code
  // For a name with several addresses Node tries each, and reports all failures together.
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0])
  return error.cause instanceof Error ? codeOf(error.cause) : (code ?? error.name)
}
