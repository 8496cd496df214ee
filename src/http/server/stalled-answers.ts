import type { ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'

interface Progress {
  /** Changes whenever the client has taken something. */
  mark: number
  /** Milliseconds of `performance.now()`. */
  since: number
}

const CHECK_INTERVAL_MS = 1000

/**
 * Cuts off clients that do not read their answers, whatever the answer's size. One timer looks at all connections and
 * HTTP/2 answers once a second, which costs nothing for each request. Answers are written in pieces, so that every
 * piece read counts as progress. Event streams have a rule of their own.
 */
export class StalledAnswers {
  readonly #stallMs: number
  readonly #isStream: (socket: Socket) => boolean
  readonly #sockets = new Set<Socket>()
  readonly #streams = new Set<ServerHttp2Stream>()
  readonly #waiting = new Map<Socket | ServerHttp2Stream, Progress>()
  #timer: NodeJS.Timeout | undefined

  /** @param isStream whether an HTTP/1.1 connection carries an event stream */
  constructor(stallMs: number, isStream: (socket: Socket) => boolean) {
    this.#stallMs = stallMs
    this.#isStream = isStream
  }

  /** Watches all answers on an HTTP/1.1 connection. */
  watchConnection(socket: Socket): void {
    this.#watch(this.#sockets, socket)
  }

  /** Watches an HTTP/2 answer. Its client may read everything else on the connection, and nothing of this stream. */
  watchAnswer(stream: ServerHttp2Stream): void {
    this.#watch(this.#streams, stream)
  }

  #watch<Watched extends Socket | ServerHttp2Stream>(set: Set<Watched>, watched: Watched): void {
    if (watched.destroyed || set.has(watched)) return
    set.add(watched)
    watched.once('close', () => {
      set.delete(watched)
      this.#waiting.delete(watched)
    })
    this.#timer ??= setTimeout(() => this.#check(), CHECK_INTERVAL_MS).unref()
  }

  #check(): void {
    const now = performance.now()
    for (const socket of this.#sockets) {
      // What has left the process: all that was written, without what still waits here.
      const isWaiting = socket.writableLength > 0 && !this.#isStream(socket)
      this.#look(socket, isWaiting, isWaiting ? socket.bytesWritten - socket.writableLength : 0, now)
    }
    for (const stream of this.#streams) {
      const isWaiting = stream.writableLength > 0 || (stream.writableEnded && !stream.writableFinished)
      this.#look(stream, isWaiting, stream.writableLength, now)
    }
    const isIdle = this.#sockets.size === 0 && this.#streams.size === 0
    this.#timer = isIdle ? undefined : this.#timer!.refresh()
  }

  #look(watched: Socket | ServerHttp2Stream, isWaiting: boolean, mark: number, now: number): void {
    if (!isWaiting) return void this.#waiting.delete(watched)
    const progress = this.#waiting.get(watched)
    if (progress === undefined || progress.mark !== mark) this.#waiting.set(watched, { mark, since: now })
    else if (now - progress.since >= this.#stallMs) watched.destroy()
  }
}
