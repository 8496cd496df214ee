import type { Writable } from 'node:stream'
import type { Held } from '../memory/account.ts'
import type { StreamCounters } from './counters.ts'
import type { CloseReason, EventName } from './events.ts'
import type { Chunk } from './log.ts'

/**
 * What happens to a reader whose next messages were overwritten in the log. `gap`: it continues with the oldest
 * message there is. `latest`: it gets the newest message of each topic. `close`: its stream ends. In each case it gets
 * a `gap` event.
 */
export type SlowPolicy = 'gap' | 'latest' | 'close'

/** How the bridge ends a stream. */
export interface StreamEnd {
  reason: CloseReason
  /** What is written last. Called once for each reader. */
  lastBytes: () => Buffer
}

/** How long the last bytes of a stream may take before the connection is cut. */
const CLOSE_TIMEOUT_MS = 1000

export interface ReaderOptions {
  slow: SlowPolicy
  /** Position in its channel's log at which it begins. */
  position: number
  /** Ends the stream when aborted; its reason has to be a `StreamEnd`. Not aborted yet. */
  signal?: AbortSignal | undefined
  counters: Pick<StreamCounters, 'wrote'>
  /** Where the bytes that wait for its socket are counted; nowhere without it. */
  held?: Held
  /** Called with an unexpected error, which ends this stream. */
  onFault?(error: unknown): void
  /** The socket takes more. */
  onDrain(reader: Reader): void
  /** The stream ended. Called once. */
  onClose(reason: CloseReason): void
  /** All events before this position have left for the socket. */
  onFlushed?(position: number): void
}

/** Some bytes of a stream's preamble, and how many events they are. */
export interface PreamblePart {
  bytes: Buffer
  events: number
  /** What the bytes are, where several readers may be written the same ones. */
  chunk?: Chunk
}

/** One HTTP response that follows a channel. It has no queue: while its socket is full, it stays behind in the log. */
export class Reader {
  readonly slow: SlowPolicy
  /** Position of the next frame to write. */
  position: number
  /** With `slow=latest`, the positions to jump to after the next frame, the last one first. Empty: no jumps. */
  nextPositions: number[] = []
  readonly #response: Writable
  readonly #options: ReaderOptions
  /** Events to write before anything else once the socket takes more; of each name only the last. */
  readonly #announcements = new Map<EventName, Buffer>()
  #preamble: Iterator<PreamblePart> | undefined
  /** What it begins with is not known yet. */
  #isHeld = false
  #isFull = false
  /** What made the socket full. Its bytes are in memory until the socket takes more. */
  #waitingFor: Chunk | undefined
  #fullSince = 0
  #isClosed = false

  /** Takes over a response whose headers are written. `close` ends it, unless the client does. */
  constructor(response: Writable, options: ReaderOptions) {
    this.#response = response
    this.#options = options
    this.slow = options.slow
    this.position = options.position
    response.on('drain', () => this.#guarded(() => this.#drained()))
    // A client that leaves while its socket is full never causes `drain`, but always `close`.
    response.once('close', () => this.#closed('client'))
    response.on('error', () => {})
    options.signal?.addEventListener('abort', ({ target }) => {
      this.end((target as AbortSignal).reason as StreamEnd)
    })
  }

  /** Whether the socket takes a write at once, and the preamble is written. */
  get isReady(): boolean {
    return !this.#isFull && !this.#isClosed && !this.#isHeld && this.#preamble === undefined
  }

  /** Writes nothing of the channel until `begin` is called. */
  hold(): void {
    this.#isHeld = true
  }

  /** Writes what comes before the channel's events, no faster than the socket takes it. Until then it is not ready. */
  begin(preamble: Iterator<PreamblePart>): void {
    this.#isHeld = false
    this.#preamble = preamble
    this.#guarded(() => this.#writePreamble())
  }

  /** @param chunk what the bytes are, where several readers may be written the same chunk */
  write(bytes: Buffer, events: number, chunk?: Chunk): void {
    if (bytes.length === 0 || this.#isClosed) return
    const { counters, onFlushed } = this.#options
    const { position } = this
    const flushed = onFlushed && ((error?: Error | null) => void (error || this.#guarded(() => onFlushed(position))))
    try {
      counters.wrote(events, bytes.length)
      if (this.#response.write(bytes, flushed) || this.#isFull) return
    } catch (error) {
      return this.fail(error)
    }
    this.#isFull = true
    this.#fullSince = performance.now()
    this.#waitFor(chunk ?? { bytes, events, end: position })
  }

  /** Ends the stream as somebody else decided. */
  end({ reason, lastBytes }: StreamEnd): void {
    this.#guarded(() => this.close(reason, lastBytes()))
  }

  /** Ends the stream because of an unexpected error. The client comes back and continues. */
  fail(error: unknown): void {
    this.#options.onFault?.(error)
    this.#cut('failed')
  }

  /** Writes an event now, or before all else once the socket takes more. Replaces a waiting one of the same name. */
  announce(event: EventName, bytes: Buffer): void {
    if (this.#isFull) this.#announcements.set(event, bytes)
    else this.write(bytes, 1)
  }

  /** Writes a heartbeat, unless the socket is full. Closes the stream if it has been full for longer than `stallMs`. */
  heartbeat(bytes: Buffer, stallMs: number): void {
    if (!this.#isFull) this.write(bytes, 0)
    else if (performance.now() - this.#fullSince > stallMs) this.close('stalled')
  }

  close(reason: CloseReason, lastBytes?: Buffer): void {
    if (this.#isClosed) return
    if (lastBytes !== undefined) this.write(lastBytes, 1)
    // A response ends once all is written, which never happens if the client does not read.
    if (this.#isFull) this.#response.destroy()
    else {
      const timer = setTimeout(() => this.#response.destroy(), CLOSE_TIMEOUT_MS)
      this.#response.end().once('close', () => clearTimeout(timer))
    }
    this.#closed(reason)
  }

  /** Runs something whose errors must not get out: they would end the process, or keep other readers waiting. */
  #guarded(task: () => void): void {
    try {
      task()
    } catch (error) {
      this.fail(error)
    }
  }

  #cut(reason: CloseReason): void {
    this.#response.destroy()
    this.#closed(reason)
  }

  /** Counts what the socket has not taken: once, however many readers wait for the same chunk. */
  #waitFor(chunk: Chunk): void {
    const { held } = this.#options
    if (held === undefined) return
    if ((chunk.waiting ?? 0) === 0) {
      if (!held.grow(chunk.bytes.length)) return this.#cut('memory')
      chunk.payer = held
    }
    chunk.waiting = (chunk.waiting ?? 0) + 1
    this.#waitingFor = chunk
  }

  #waitNoMore(): void {
    const chunk = this.#waitingFor
    if (chunk === undefined) return
    this.#waitingFor = undefined
    chunk.waiting! -= 1
    if (chunk.waiting === 0) chunk.payer!.shrink(chunk.bytes.length)
  }

  #drained(): void {
    this.#isFull = false
    this.#waitNoMore()
    for (const [event, bytes] of this.#announcements) {
      this.#announcements.delete(event)
      this.write(bytes, 1)
    }
    this.#writePreamble()
    if (this.isReady) this.#options.onDrain(this)
  }

  #writePreamble(): void {
    while (this.#preamble !== undefined && !this.#isFull && !this.#isClosed) {
      const { value, done } = this.#preamble.next()
      if (done) this.#preamble = undefined
      else this.write(value.bytes, value.events, value.chunk)
    }
  }

  #closed(reason: CloseReason): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#waitNoMore()
    this.#options.onClose(reason)
  }
}
