import { setTimeout as delay } from 'node:timers/promises'
import { now } from './payload.ts'

export interface Pace {
  /** Round trips in each of the two measurements. */
  count: number
  /** Round trips between the measurements, without a pause. */
  warmUp: number
  /** Pause after each measured round trip. */
  everyMs: number
}

/** Milliseconds of each round trip, of processes that have just started and of the same ones after the warm-up. */
export interface RoundTrips {
  cold: number[]
  warm: number[]
}

export async function measureRoundTrips(
  roundTrip: (index: number) => Promise<void>,
  { count, warmUp, everyMs }: Pace,
): Promise<RoundTrips> {
  let index = 0
  async function take(some: number, pauseMs: number): Promise<number[]> {
    const latencies: number[] = []
    for (const end = index + some; index < end; index += 1) {
      const sentAt = now()
      await roundTrip(index)
      latencies.push((now() - sentAt) / 1000)
      if (pauseMs > 0) await delay(pauseMs)
    }
    return latencies
  }
  const cold = await take(count, everyMs)
  await take(warmUp, 0)
  return { cold, warm: await take(count, everyMs) }
}
