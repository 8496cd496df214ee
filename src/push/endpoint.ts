import type { Readable } from 'node:stream'
import { rootCertificates } from 'node:tls'
import { errors, Pool } from 'undici'
import { systemFault } from '../mqtt/connection/system-fault.ts'
import { tlsFault } from '../mqtt/connection/tls-fault.ts'
import { retryAfterMs } from './retry.ts'

export interface EndpointOptions {
  url: string
  /** Most connections, and so requests at once. */
  connections: number
  /** For one request, from the look-up of the host's name to the end of the answer. */
  timeoutMs: number
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

/** A connection that is used all the time is closed after this, so that a changed address of the host is noticed. */
const CONNECTION_MS = 60_000
/** What is read of an answer's body. Of a longer one only the status counts. */
const ANSWER_BYTES_MAX = 1_048_576

/** One URL that is posted to, over connections of its own that are kept open. Redirects are not followed. */
export class Endpoint {
  readonly #pool: Pool
  readonly #path: string
  readonly #timeoutMs: number
  /** The requests that are open. */
  readonly #open = new Set<AbortController>()

  constructor({ url, connections, timeoutMs, ca }: EndpointOptions) {
    const { origin, pathname, search } = new URL(url)
    this.#path = pathname + search
    this.#timeoutMs = timeoutMs
    this.#pool = new Pool(origin, {
      connections,
      clientTtl: CONNECTION_MS,
      // HTTP/2 stays off, as it is by default: undici 7.30 takes an answer for whole whose stream was cut off.
      // The whole request has one limit.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: timeoutMs, ...(ca !== undefined && { ca: [...rootCertificates, ca] }) },
    })
  }

  /** Posts once. Never rejects. */
  async post(body: Buffer, headers: Record<string, string>): Promise<Answer> {
    const request = new AbortController()
    this.#open.add(request)
    let isTimedOut = false
    const timer = setTimeout(() => {
      isTimedOut = true
      request.abort()
    }, this.#timeoutMs)
    try {
      const response = await this.#pool.request({
        path: this.#path,
        method: 'POST',
        headers,
        body,
        signal: request.signal,
      })
      await readToEnd(response.body)
      const { statusCode: status } = response
      const retryAfter = response.headers['retry-after']
      return {
        status,
        retryAfterMs: retryAfterMs(typeof retryAfter === 'string' ? retryAfter : undefined, Date.now()),
        reason: `it answered ${status}`,
      }
    } catch (error) {
      const reason = isTimedOut ? `no whole answer came within ${this.#timeoutMs} ms` : faultOf(error)
      return { status: undefined, retryAfterMs: undefined, reason }
    } finally {
      clearTimeout(timer)
      this.#open.delete(request)
    }
  }

  /** Aborts the requests that are open. */
  async close(): Promise<void> {
    for (const request of this.#open) request.abort()
    await this.#pool.destroy()
  }
}

/** Rejects where the connection breaks before the end. With listeners, as an async iterator takes twice the time. */
function readToEnd(body: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    let read = 0
    body
      .on('data', (chunk: Buffer) => {
        read += chunk.length
        if (read <= ANSWER_BYTES_MAX) return
        resolve()
        body.destroy()
      })
      .once('end', resolve)
      .once('error', reject)
  })
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
