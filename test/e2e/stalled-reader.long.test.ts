import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { describe, expect, onTestFinished, test } from 'vitest'
import { metric } from '../support/bridge.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { flow, PROCESS_BROKERS } from '../support/flow.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { openStream } from '../support/stream.ts'

/** 50 MB while everyone reads, until the garbage collector has found its level; then 100 MB. */
const WARM_UP = 1000
const MESSAGES = 2000
const MAX_GROWTH_BYTES = 80_000_000

/** A reader that keeps the numbers in the payloads alone. */
async function openCounter(
  url: string,
): Promise<{ numbers: number[]; others: string[]; until(count: number): Promise<void> }> {
  const request = get(url, { agent: false }).on('error', () => {})
  onTestFinished(() => void request.destroy())
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const numbers: number[] = []
  const others: string[] = []
  const parser = createParser({
    onEvent({ event, data }) {
      // Every stream begins with a status.
      if (event === 'status') return
      if (event === undefined) numbers.push(Number.parseInt((JSON.parse(data) as { payload: string }).payload, 10))
      else others.push(`${event} ${data}`)
    },
  })
  response.setEncoding('utf8').on('data', (chunk: string) => parser.feed(chunk))
  return {
    numbers,
    others,
    async until(count) {
      while (numbers.length + others.length < count) await once(response, 'data')
    },
  }
}

describe.each(PROCESS_BROKERS)('on $name', ({ start }) => {
  test('a reader that stalls while 100 MB flow needs little memory, delays nobody, and gets a gap', async () => {
    const { settings, url } = await start()
    const bridge = spawnBridge(settings)
    const adminUrl = await bridge.url
    const readers = await Promise.all(
      ['topic=a', 'topic=a', 'topic=a&topic=b/%23', 'topic=a&encoding=json'].map((query) =>
        openCounter(`${adminUrl}/subscribe?${query}`),
      ),
    )
    const client = await mqttClient(url)
    const before = await flow(client, bridge.pid, readers, 0, WARM_UP)
    const stalled = await openStream(`${adminUrl}/subscribe?topic=a`)
    stalled.pause()
    const most = await flow(client, bridge.pid, readers, WARM_UP, WARM_UP + MESSAGES)
    const all = Array.from({ length: WARM_UP + MESSAGES }, (_, index) => index)
    for (const { numbers, others } of readers) expect([numbers, others]).toEqual([all, []])
    expect(most - before).toBeLessThan(MAX_GROWTH_BYTES)

    stalled.resume()
    await client.publishAsync('a', `${all.length} `, { qos: 1 })
    const got: number[] = []
    while (got.at(-1) !== all.length) {
      const { event, data } = await stalled.next()
      if (event === 'gap') {
        expect(data).toEqual({ reason: 'overrun', dropped: expect.any(Number) })
        expect(data.dropped).toBeGreaterThan(0)
        got.push(...Array.from({ length: data.dropped as number }, (_, index) => WARM_UP + got.length + index))
      } else got.push(Number.parseInt(data.payload, 10))
    }
    expect(got).toEqual([...all.slice(WARM_UP), all.length])
    const gaps = stalled.events.filter(({ event }) => event === 'gap')
    expect(gaps.length).toBeGreaterThan(0)
    expect(await metric({ adminUrl }, 'causeway_stream_gaps_total{reason="overrun"}')).toBe(gaps.length)
    expect(await metric({ adminUrl }, 'causeway_stream_dropped_events_total{reason="overrun"}')).toBe(
      gaps.reduce((sum, { data }) => sum + data.dropped, 0),
    )
  }, 60_000)
})
