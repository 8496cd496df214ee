import { describe, expect, test } from 'vitest'
import { type Bridge, brokerUrl, metric, type Settings, startBridge } from '../support/bridge.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft } from '../support/nothing-left.ts'
import { openStream, type StreamReader } from '../support/stream.ts'

const TOPICS = ['a/0', 'a/1', 'a/2', 'a/3', 'a/4']
const LINES = { accept: 'application/x-ndjson' }
/** Messages that are more than a stalled reader's sockets and the log hold together: 12 MB. */
const STALLING = 600
const number = ({ data }: { data: { payload: string } }): number => Number.parseInt(data.payload)
const messages = (stream: StreamReader): number[] =>
  stream.events.filter(({ event }) => event === 'message').map(number)
const dropped = (stream: StreamReader): number =>
  stream.events.filter(({ event }) => event === 'gap').reduce((sum, { data }) => sum + data.dropped, 0)
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index)

/** A bridge, a `send` for numbered messages of 20 kB on five topics in turn, and a stream that reads all of them. */
async function started(settings: Settings = {}) {
  const bridge = await startBridge({ STREAM_LOG_MESSAGES: 20, ...settings })
  const outside = await mqttClient(brokerUrl(bridge, settings))
  const url = `${bridge.url}/subscribe?topic=a/%2B`
  const quick = await openStream(url)
  let sent = 0
  async function send(count: number): Promise<void> {
    for (const end = sent + count; sent < end; sent += 1) {
      await outside.publishAsync(TOPICS[sent % 5]!, `${sent}`.padEnd(20_000), { qos: 1 })
      // Waiting for each message keeps this reader from being overtaken.
      while (quick.events.length <= sent) await quick.next()
    }
  }
  return { bridge, url, quick, send }
}

async function expectEnd(bridge: Bridge, quick: StreamReader, sent: number): Promise<void> {
  expect(messages(quick)).toEqual(range(0, sent))
  quick.close()
  await expectNothingLeft(bridge)
}

describe('a reader that the log overtakes', () => {
  test.each([
    ['events', {}],
    ['lines', LINES],
  ])('is told how many it missed, then gets the oldest there are, then live ones: %s', async (_format, headers) => {
    const { bridge, url, quick, send } = await started()
    const slow = await openStream(url, headers)
    slow.pause()
    await send(STALLING)
    expect(await metric(bridge, 'causeway_stream_lag_ratio')).toBe(1)
    expect(await metric(bridge, 'causeway_streams_behind')).toBe(1)
    slow.resume()
    await expect.poll(() => messages(slow).length + dropped(slow)).toBe(STALLING)
    await send(10)
    await expect.poll(() => messages(slow).at(-1)).toBe(STALLING + 9)
    const gap = slow.events.findIndex(({ event }) => event === 'gap')
    expect(slow.events[gap]!.data).toEqual({ reason: 'overrun', dropped: STALLING - 20 - gap })
    expect(messages(slow)).toEqual([...range(0, gap), ...range(STALLING - 20, STALLING + 10)])
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="overrun"}')).toBe(1)
    await expect.poll(() => metric(bridge, 'causeway_stream_lag_ratio')).toBe(0)
    expect(await metric(bridge, 'causeway_stream_dropped_events_total{reason="overrun"}')).toBe(dropped(slow))
    // Who continues from the gap's id gets what is left, and no second gap.
    const back = await openStream(url, { ...headers, 'last-event-id': slow.events[gap]!.id! })
    slow.close()
    back.close()
    await expectEnd(bridge, quick, STALLING + 10)
  })

  test('gets the newest of each topic and then live ones with slow=latest', async () => {
    const { bridge, url, quick, send } = await started()
    const slow = await openStream(`${url}&slow=latest`)
    slow.pause()
    await send(STALLING)
    slow.resume()
    await expect.poll(() => messages(slow).length + dropped(slow)).toBe(STALLING)
    await send(10)
    await expect.poll(() => messages(slow).at(-1)).toBe(STALLING + 9)
    const gap = slow.events.findIndex(({ event }) => event === 'gap')
    expect(messages(slow)).toEqual([...range(0, gap), ...range(STALLING - 5, STALLING + 10)])
    expect(slow.events[gap]!.data).toEqual({ reason: 'overrun', dropped: STALLING - 5 - gap })
    slow.close()
    await expectEnd(bridge, quick, STALLING + 10)
  })

  test('is told and ended with slow=close', async () => {
    const { bridge, url, quick, send } = await started()
    const slow = await openStream(`${url}&slow=close`)
    slow.pause()
    await send(STALLING)
    slow.resume()
    await slow.ended
    expect(slow.events.at(-1)).toMatchObject({
      event: 'gap',
      data: { reason: 'overrun', dropped: STALLING - 20 - messages(slow).length },
    })
    expect(messages(slow)).toEqual(range(0, messages(slow).length))
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="slow"}')).toBe(1)
    await expectEnd(bridge, quick, STALLING)
  })

  test.each(['gap', 'latest'])(
    'again and again, in the middle of catching up, can count on the numbers: slow=%s',
    async (slow) => {
      const { bridge, url, quick, send } = await started({ STREAM_LOG_BYTES: 300_000 })
      const stream = await openStream(`${url}&slow=${slow}`)
      let sent = 0
      for (const whileCatchingUp of [0, 10, 40]) {
        stream.pause()
        await send(STALLING)
        stream.resume()
        await send(whileCatchingUp)
        sent += STALLING + whileCatchingUp
      }
      await expect.poll(() => messages(stream).length + dropped(stream)).toBe(sent)
      expect(stream.events.filter(({ event }) => event === 'gap').length).toBeGreaterThan(1)
      const seen = messages(stream)
      expect(seen).toEqual(seen.toSorted((a, b) => a - b))
      expect(new Set(seen).size).toBe(seen.length)
      expect(seen.at(-1)).toBe(sent - 1)
      stream.close()
      await expectEnd(bridge, quick, sent)
    },
  )
})

test('a reader that reads nothing for too long is ended, one that reads slowly is not', async () => {
  const { bridge, url, quick, send } = await started({
    STREAM_HEARTBEAT_MS: 50,
    // Longer than both readers pause, on a busy machine too.
    STREAM_STALL_MS: 4000,
    STREAM_LOG_BYTES: 100_000_000,
    STREAM_LOG_MESSAGES: 10_000,
  })
  const [stalled, reading] = [await openStream(url), await openStream(url)]
  stalled.pause()
  reading.pause()
  await send(STALLING)
  reading.resume()
  await expect.poll(() => metric(bridge, 'causeway_stream_closed_total{reason="stalled"}'), { timeout: 10_000 }).toBe(1)
  await expect.poll(() => messages(reading)).toEqual(range(0, STALLING))
  await send(1)
  await expect.poll(() => messages(reading).at(-1)).toBe(STALLING)
  stalled.resume()
  await stalled.ended
  expect(messages(stalled)).toEqual(range(0, messages(stalled).length))
  reading.close()
  await expectEnd(bridge, quick, STALLING + 1)
})
