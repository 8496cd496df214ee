import { Server } from 'node:net'
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'

/** The longest turn of the event loop in which the listener is closed at first. It is twice as long after each step. */
const SHORT_TURN_MS = 0.1
const STEP_MS = 150
/** After this time the listener is closed in any turn. */
const TURN_WAIT_MS = 1000
/** So many turns, and then a pause. */
const TURNS = 10
const PAUSE_MS = 2

/**
 * Closes the listener of a server in a moment in which no connection waits, and leaves its open connections alone.
 *
 * The kernel accepts connections before we take them, and a proxy sends its request at once. Closing the listener
 * resets those that were not taken, and the proxy may not send a POST that it has sent to another replica. So the
 * listener is closed in a turn of the event loop that brought no connection and was short: there was hardly time for
 * one to come.
 *
 * A busy machine interrupts a process that has run for long, and during an interruption between that turn and the
 * closing more connections would come. So only the few turns behind a pause count.
 *
 * @param taken how many connections were taken so far
 */
export async function closeListener(server: Server, taken: () => number): Promise<void> {
  // The first call of a function takes longer, because it is compiled.
  new Server().close()
  const startedMs = performance.now()
  for (let turn = 0; ; turn += 1) {
    if (turn % TURNS === 0) await delay(PAUSE_MS)
    const [takenBefore, beganMs] = [taken(), performance.now()]
    await nextTurn()
    const nowMs = performance.now()
    const waitedMs = nowMs - startedMs
    if (taken() === takenBefore && nowMs - beganMs < SHORT_TURN_MS * 2 ** (waitedMs / STEP_MS)) break
    if (waitedMs > TURN_WAIT_MS) break
  }
  // The `close` of an HTTP server would also close connections.
  Server.prototype.close.call(server)
}
