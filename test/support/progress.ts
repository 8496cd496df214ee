import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'

/** A failure, not a pace: longer than anything that still works stands still on a busy machine. */
const STANDSTILL_MS = 30_000

/**
 * Waits until nothing is left of what has to happen, as long as it becomes less. Fails when it has not become less for
 * 30 s, and shows what is left. How long it takes altogether does not matter, so a busy machine is no failure.
 */
export async function untilEmpty(left: () => readonly unknown[]): Promise<void> {
  let least = Infinity
  let since = performance.now()
  for (;;) {
    const rest = left()
    if (rest.length === 0) return
    if (rest.length < least) {
      least = rest.length
      since = performance.now()
    }
    if (performance.now() - since > STANDSTILL_MS) expect(rest, 'left, and nothing happens any more').toEqual([])
    await delay(50)
  }
}
