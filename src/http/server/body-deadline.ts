import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

interface PendingBody {
  request: IncomingMessage
  /** Milliseconds of `performance.now()`. */
  dueAt: number
}

const CHECK_INTERVAL_MS = 1000

/**
 * Reports HTTP/1.1 request bodies that do not arrive in time, at most one second late. One timer checks all
 * connections, as Node does for headers: a timer and two listeners for each request would cost as much as its
 * validation.
 */
export class BodyDeadline {
  readonly #timeoutMs: number
  readonly #onTimeout: (socket: Socket) => void
  /** An HTTP/1.1 connection receives one body at a time. */
  readonly #pending = new Map<Socket, PendingBody>()
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number, onTimeout: (socket: Socket) => void) {
    this.#timeoutMs = timeoutMs
    this.#onTimeout = onTimeout
  }

  /** Starts the time for this request's body. */
  start(request: IncomingMessage): void {
    this.#pending.set(request.socket, { request, dueAt: performance.now() + this.#timeoutMs })
    this.#timer ??= setTimeout(() => this.#check(), Math.min(CHECK_INTERVAL_MS, this.#timeoutMs)).unref()
  }

  /** No deadline applies to the body that this connection brings. */
  forget(socket: Socket): void {
    this.#pending.delete(socket)
  }

  #check(): void {
    const now = performance.now()
    for (const [socket, { request, dueAt }] of this.#pending) {
      const isLate = !request.complete && now >= dueAt
      if (request.complete || isLate || socket.destroyed) this.#pending.delete(socket)
      if (isLate) this.#onTimeout(socket)
    }
    this.#timer = this.#pending.size === 0 ? undefined : this.#timer!.refresh()
  }
}
