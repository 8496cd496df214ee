import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

interface Arriving {
  request: IncomingMessage
  /** In milliseconds of `performance.now()`. */
  dueAt: number
}

/** How often it is looked for what is late. */
const LATE_CHECK_MS = 1000

/**
 * Gives up request bodies that do not arrive in time, at most a second later. It looks at the connections now and then, as
 * Node does for heads: a timer and two listeners for each request cost as much as its validation.
 */
export class BodyDeadline {
  readonly #timeoutMs: number
  readonly #giveUp: (socket: Socket) => void
  /** By connection, which has one at a time. */
  readonly #arriving = new Map<Socket, Arriving>()
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number, giveUp: (socket: Socket) => void) {
    this.#timeoutMs = timeoutMs
    this.#giveUp = giveUp
  }

  /** From now on the body of this request has its time. */
  expect(request: IncomingMessage): void {
    this.#arriving.set(request.socket, { request, dueAt: performance.now() + this.#timeoutMs })
    this.#timer ??= setTimeout(() => this.#look(), Math.min(LATE_CHECK_MS, this.#timeoutMs)).unref()
  }

  #look(): void {
    const now = performance.now()
    for (const [socket, { request, dueAt }] of this.#arriving) {
      const isLate = !request.complete && now >= dueAt
      if (request.complete || isLate || socket.destroyed) this.#arriving.delete(socket)
      if (isLate) this.#giveUp(socket)
    }
    this.#timer = this.#arriving.size === 0 ? undefined : this.#timer!.refresh()
  }
}
