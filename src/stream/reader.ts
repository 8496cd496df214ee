import type { Writable } from 'node:stream'

/** What to do with a reader that the log has overtaken: skip with a `gap`, skip to each topic's newest, or end its stream. */
export type SlowPolicy = 'gap' | 'latest' | 'close'

/** Why a stream ended. */
export type CloseReason =
  | 'client'
  | 'deleted'
  | 'expired'
  | 'refused'
  | 'replaced'
  | 'revoked'
  | 'shutdown'
  | 'slow'
  | 'stalled'
  | 'taken-over'

/** Why streams end that their source or the bridge ends. */
export interface Ending {
  reason: CloseReason
  /** Said to one reader. */
  text: () => Buffer
}

/** For what is written last to leave. */
const FAREWELL_MS = 1000

export interface ReaderOptions {
  slow: SlowPolicy
  /** Where it begins in its channel's log. */
  position: number
  /** Ends the stream; its reason is a `Ending`. Not aborted yet. */
  until?: AbortSignal | undefined
  /** The socket takes more. */
  onDrain(reader: Reader): void
  onClose(reason: CloseReason): void
  onWrite(events: number, bytes: number): void
  /** All up to this position has left for the socket. */
  onFlushed?(position: number): void
}

/** Bytes for one reader alone. */
export interface Opening {
  bytes: Buffer
  events: number
}

/** One HTTP response that follows a channel. It keeps no queue: while its socket is full it just stays behind in the log. */
export class Reader {
  readonly slow: SlowPolicy
  /** Of the next frame to write. */
  position: number
  /** Where it goes on behind the next frame, behind that one and so on, in reverse; where it is empty, nothing is skipped. */
  skips: number[] = []
  readonly #response: Writable
  readonly #options: ReaderOptions
  /** By event, what to say before anything else once the socket takes more. */
  readonly #announcements = new Map<string, Buffer>()
  #opening: Iterator<Opening> | undefined
  #full = false
  #fullSince = 0
  #closed = false

  /** Takes over a response whose headers are written: it is ended by `close`, or by its client. */
  constructor(response: Writable, options: ReaderOptions) {
    this.#response = response
    this.#options = options
    this.slow = options.slow
    this.position = options.position
    response.on('drain', () => this.#drained())
    // `close` comes whatever ended the response; waiting for `drain` alone would miss a client that leaves while full.
    response.once('close', () => this.#end('client'))
    response.on('error', () => {})
    options.until?.addEventListener('abort', ({ target }) => {
      const { reason, text } = (target as AbortSignal).reason as Ending
      this.close(reason, text())
    })
  }

  /** Whether a write would leave at once. */
  get isReady(): boolean {
    return !this.#full && !this.#closed && this.#opening === undefined
  }

  /** Writes what its stream begins with, no faster than its socket takes it; until that is done it is not ready. */
  begin(opening: Iterator<Opening>): void {
    this.#opening = opening
    this.#open()
  }

  write(bytes: Buffer, events: number): void {
    if (bytes.length === 0 || this.#closed) return
    const { onWrite, onFlushed } = this.#options
    onWrite(events, bytes.length)
    const { position } = this
    const flushed = onFlushed && ((error?: Error | null) => void (error || onFlushed(position)))
    if (this.#response.write(bytes, flushed) || this.#full) return
    this.#full = true
    this.#fullSince = performance.now()
  }

  /** Writes an event now or, where the socket is full, before all else; of the same event only the last. */
  announce(event: string, bytes: Buffer): void {
    if (this.#full) this.#announcements.set(event, bytes)
    else this.write(bytes, 1)
  }

  /** A socket that is full needs no sign of life; one that stays so for too long is given up. */
  heartbeat(bytes: Buffer, stallMs: number): void {
    if (!this.#full) this.write(bytes, 0)
    else if (performance.now() - this.#fullSince > stallMs) this.close('stalled')
  }

  close(reason: CloseReason, farewell?: Buffer): void {
    if (this.#closed) return
    if (farewell !== undefined) this.write(farewell, 1)
    // A client that does not read would keep its response from ending for ever.
    if (this.#full) this.#response.destroy()
    else {
      const timer = setTimeout(() => this.#response.destroy(), FAREWELL_MS)
      this.#response.end().once('close', () => clearTimeout(timer))
    }
    this.#end(reason)
  }

  #drained(): void {
    this.#full = false
    for (const [event, bytes] of this.#announcements) {
      this.#announcements.delete(event)
      this.write(bytes, 1)
    }
    this.#open()
    if (this.isReady) this.#options.onDrain(this)
  }

  #open(): void {
    while (this.#opening !== undefined && !this.#full && !this.#closed) {
      const { value, done } = this.#opening.next()
      if (done) this.#opening = undefined
      else this.write(value.bytes, value.events)
    }
  }

  #end(reason: CloseReason): void {
    if (this.#closed) return
    this.#closed = true
    this.#options.onClose(reason)
  }
}
