import { CausewayError } from '../errors.ts'

/** How often what waits tries again though no connection was made: a session has a connection of its own. */
const RETRY_MS = 2000
/**
 * Tries during which the connection is lost. A broker may close it because of this very filter, and would do so at each
 * try, which costs everybody else a reconnect.
 */
const LOST_MAX = 2

/**
 * Lets subscriptions wait for the broker. A browser's `EventSource` gives up for good after one answer that is no
 * stream, so a short absence of the broker must not become a 503.
 */
export class BrokerWait {
  readonly #waitMs: number
  readonly #isConnected: () => boolean
  readonly #waiting = new Set<() => void>()
  #isClosed = false

  /**
   * @param waitMs how long each of them waits; 0 for not at all
   * @param isConnected whether the connection for subscriptions is there
   */
  constructor(waitMs: number, isConnected: () => boolean) {
    this.#waitMs = waitMs
    this.#isConnected = isConnected
  }

  /** A connection to the broker was made: all that wait try again. */
  connected(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Nothing waits any longer. */
  close(): void {
    this.#isClosed = true
    this.connected()
  }

  /**
   * Runs a task again and again for as long as the broker is away.
   * @param signal ends the wait when aborted
   * @throws the task's last error
   */
  async run<Result>(task: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
    const untilMs = performance.now() + this.#waitMs
    let lost = 0
    for (;;) {
      const wasConnected = this.#isConnected()
      try {
        return await task()
      } catch (error) {
        if (wasConnected && !this.#isConnected()) lost += 1
        const isAway = error instanceof CausewayError && error.kind.code === 'broker-unavailable'
        if (!isAway || lost === LOST_MAX || signal.aborted || this.#isClosed) throw error
        if (performance.now() >= untilMs) throw error
      }
      await this.#nextChance(Math.min(RETRY_MS, untilMs - performance.now()), signal)
    }
  }

  #nextChance(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', wake)
        this.#waiting.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, timeoutMs)
      signal.addEventListener('abort', wake)
      this.#waiting.add(wake)
    })
  }
}
