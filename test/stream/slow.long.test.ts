import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { openStream, type StreamReader } from '../support/stream.ts'

const SETTINGS = { STREAM_LOG_MESSAGES: 50, STREAM_LOG_BYTES: 10_000_000 }
const PAYLOAD = 'x'.repeat(20_000)
const numberOf = (event: StreamReader['events'][number]) => Number(event.data.payload.split(' ')[0])

/** Publishes far more than sockets and log hold, while one reader reads nothing and another one reads all. */
async function overrun(
  bridge: Bridge,
  stalled: StreamReader,
  topicOf: (number: number) => string,
  count = 1000,
): Promise<StreamReader> {
  const keepsUp = await openStream(`${bridge.url}/subscribe?topic=s/%23`)
  const client = await mqttClient(bridge.embeddedUrl!)
  stalled.pause()
  for (let number = 0; number < count; number += 1) {
    await client.publishAsync(topicOf(number), `${number} ${PAYLOAD}`, { qos: 1 })
    // Waiting for each message keeps this reader from being overtaken too.
    await keepsUp.next()
  }
  return keepsUp
}

describe('a reader that the log has overtaken', () => {
  test('with slow=gap is told how many it missed and goes on with the oldest there is', async () => {
    const bridge = await startBridge(SETTINGS)
    const stalled = await openStream(`${bridge.url}/subscribe?topic=s/%23`)
    const keepsUp = await overrun(bridge, stalled, () => 's/a')
    stalled.resume()
    await expect
      .poll(() => stalled.events.at(-1)?.event === 'message' && numberOf(stalled.events.at(-1)!), { timeout: 20_000 })
      .toBe(999)
    const messages = stalled.events.filter(({ event }) => event === 'message')
    const gaps = stalled.events.filter(({ event }) => event === 'gap')
    expect(gaps.length).toBeGreaterThan(0)
    expect(messages.length + gaps.reduce((sum, { data }) => sum + data.dropped, 0)).toBe(1000)
    for (const [index, event] of stalled.events.entries()) {
      const before = stalled.events[index - 1]
      if (event.event === 'message' && before?.event === 'message') expect(numberOf(event)).toBe(numberOf(before) + 1)
    }
    expect(keepsUp.events.map(numberOf)).toEqual(Array.from({ length: 1000 }, (_, number) => number))
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="overrun"}')).toBe(gaps.length)
    expect(await metric(bridge, 'causeway_stream_dropped_events_total{reason="overrun"}')).toBe(1000 - messages.length)
  })

  test('with slow=latest gets the newest message of each topic, then live ones', async () => {
    const bridge = await startBridge(SETTINGS)
    const stalled = await openStream(`${bridge.url}/subscribe?topic=s/%23&slow=latest`)
    await overrun(bridge, stalled, (number) => `s/${number % 3}`)
    stalled.resume()
    await expect
      .poll(
        () =>
          stalled.events
            .filter(({ event }) => event === 'message')
            .slice(-3)
            .map(numberOf),
        { timeout: 20_000 },
      )
      .toEqual([997, 998, 999])
    const behindGap = stalled.events.slice(stalled.events.findIndex(({ event }) => event === 'gap') + 1)
    expect(behindGap.map(numberOf)).toEqual([997, 998, 999])
    const dropped = stalled.events.find(({ event }) => event === 'gap')!.data.dropped
    expect(stalled.events.length - 1 + dropped).toBe(1000)
    const client = await mqttClient(bridge.embeddedUrl!)
    await client.publishAsync('s/0', '1000 x', { qos: 1 })
    await client.publishAsync('s/0', '1001 x', { qos: 1 })
    await expect.poll(() => stalled.events.slice(-2).map(numberOf)).toEqual([1000, 1001])
  })

  test('with slow=close has its stream ended, behind a gap', async () => {
    const bridge = await startBridge(SETTINGS)
    const stalled = await openStream(`${bridge.url}/subscribe?topic=s/%23&slow=close`)
    await overrun(bridge, stalled, () => 's/a')
    stalled.resume()
    await stalled.ended
    expect(stalled.events.at(-1)).toMatchObject({ event: 'gap', data: { reason: 'overrun' } })
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="slow"}')).toBe(1)
  })
})

test('a reader that reads nothing for too long is given up', async () => {
  const bridge = await startBridge({ ...SETTINGS, STREAM_STALL_MS: 200, STREAM_HEARTBEAT_MS: 50 })
  const stalled = await openStream(`${bridge.url}/subscribe?topic=s/%23`)
  await overrun(bridge, stalled, () => 's/a')
  await expect.poll(() => metric(bridge, 'causeway_stream_closed_total{reason="stalled"}')).toBe(1)
  expect(await metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(1)
})
