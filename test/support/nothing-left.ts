import { expect } from 'vitest'
import { type Bridge, metric } from './bridge.ts'

/** Waits until the bridge has no open event stream and no filter subscribed at the broker. */
export async function expectNothingLeft(bridge: Bridge): Promise<void> {
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}'), { timeout: 10_000 }).toBe(0)
  await expect.poll(() => metric(bridge, 'causeway_subscription_filters'), { timeout: 10_000 }).toBe(0)
}

/** Waits until the bridge has exactly this many open event streams. */
export async function expectStreams(bridge: Bridge, count: number): Promise<void> {
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}'), { timeout: 10_000 }).toBe(count)
}
