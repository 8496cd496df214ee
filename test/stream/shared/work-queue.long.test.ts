import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, type Settings, startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

const SHARED = { MQTT_SHARED_SUBSCRIPTIONS: true }
const LINES = { accept: 'application/x-ndjson' }
const payloads = (count: number, from = 0): string[] => Array.from({ length: count }, (_, index) => `${from + index}`)
const got = (stream: StreamReader): string[] =>
  stream.events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)
const inOrder = (some: string[]): string[] => some.toSorted((a, b) => Number(a) - Number(b))
const allOf = (streams: StreamReader[]): string[] => inOrder(streams.flatMap(got))

/** Resolves once a reader has read all that was written to it: nothing arrives for 50 turns of the event loop. */
async function settled(stream: StreamReader): Promise<void> {
  for (let before = -1; before !== stream.text().length;) {
    before = stream.text().length
    for (let turns = 0; turns < 50; turns += 1) await new Promise(setImmediate)
  }
}

describe.each(BROKERS)('readers of one group on $name', ({ start }) => {
  async function started(more: Settings = {}) {
    const settings = { ...(await start()), ...SHARED, ...more }
    const bridge = await startBridge(settings)
    const outside = await mqttClient(brokerUrl(bridge, settings))
    const send = (topic: string, some: string[]) =>
      Promise.all(some.map((payload) => outside.publishAsync(topic, payload, { qos: 1 })))
    return { bridge, settings, send, url: `${bridge.url}/subscribe?topic=$share/g/` }
  }

  test('get each message once in all, in turn, whatever their formats', async () => {
    const { bridge, send, url } = await started()
    const streams = [
      await openStream(`${url}a/%23`),
      await openStream(`${url}a/%23`),
      await openStream(`${url}a/%23`),
      await openStream(`${url}a/%23`, LINES),
    ]
    const outsider = await openStream(`${bridge.url}/subscribe?topic=a/%23`)
    await send('a/b', payloads(400))
    expect((await outsider.take(400)).map(({ data }) => data.payload)).toEqual(payloads(400))
    await expect.poll(() => allOf(streams)).toEqual(payloads(400))
    for (const stream of streams) {
      expect(stream.events).toHaveLength(100)
      expect(got(stream)).toEqual(inOrder(got(stream)))
      stream.close()
    }
    outsider.close()
    await expectNothingLeft(bridge)
  })

  test('come and go: those who stay get what comes', async () => {
    const { bridge, send, url } = await started()
    const first = await openStream(`${url}a`)
    await send('a', payloads(10))
    await expect.poll(() => got(first)).toEqual(payloads(10))
    const second = await openStream(`${url}a`, LINES)
    await send('a', payloads(10, 10))
    await expect.poll(() => allOf([first, second])).toEqual(payloads(20))
    expect(second.events).toHaveLength(5)
    first.close()
    await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
    await send('a', payloads(10, 20))
    await expect.poll(() => got(second).slice(-10)).toEqual(payloads(10, 20))
    second.close()
    await expectNothingLeft(bridge)
  })

  test.each([
    ['the same format', {}],
    ['another format', LINES],
  ])('are not fed while they stall: one of %s takes the rest', async (_format, headers) => {
    const { bridge, send, url } = await started({ STREAM_LOG_BYTES: 100_000_000 })
    const stalled = await openStream(`${url}a`)
    const reading = await openStream(`${url}a`, headers)
    stalled.pause()
    let sent = 0
    async function sendMore(count: number): Promise<number> {
      const before = reading.events.length
      await send(
        'a',
        payloads(count, sent).map((number) => number.padEnd(20_000, ' ')),
      )
      sent += count
      // Each of the two streams began with a status.
      await expect.poll(() => metric(bridge, 'causeway_stream_events_total')).toBe(sent + 2)
      await settled(reading)
      return reading.events.length - before
    }
    // The stalled reader gets messages until its sockets are full, and then not one more.
    while ((await sendMore(50)) < 50) expect(sent).toBeLessThan(3000)
    expect(await sendMore(100)).toBe(100)
    stalled.resume()
    await expect
      .poll(() => inOrder([...got(stalled), ...got(reading)].map((payload) => payload.trim())), { timeout: 10_000 })
      .toEqual(payloads(sent))
    expect([...stalled.events, ...reading.events].every(({ event }) => event === 'message')).toBe(true)
    stalled.close()
    reading.close()
    await expectNothingLeft(bridge)
  })

  test('that all stall find what fits the limit when they read on, and a gap that counts the rest', async () => {
    const { bridge, send, url } = await started({ STREAM_LOG_MESSAGES: 10 })
    const streams = [await openStream(`${url}a`), await openStream(`${url}a`, LINES)]
    for (const stream of streams) stream.pause()
    for (let sent = 0; sent < 1000; sent += 50) {
      await send(
        'a',
        payloads(50, sent).map((number) => number.padEnd(20_000, ' ')),
      )
    }
    await expect.poll(() => metric(bridge, 'causeway_received_messages_total{qos="1"}')).toBe(1000)
    for (const stream of streams) stream.resume()
    const dropped = (stream: StreamReader): number =>
      stream.events.filter(({ event }) => event === 'gap').reduce((sum, { data }) => sum + data.dropped, 0)
    for (const stream of streams) {
      await expect.poll(() => allOf(streams).length + dropped(stream), { timeout: 10_000 }).toBe(1000)
    }
    expect(dropped(streams[0]!)).toBeGreaterThan(0)
    expect(streams[0]!.events.find(({ event }) => event === 'gap')!.data.reason).toBe('overrun')
    expect(await metric(bridge, 'causeway_stream_dropped_events_total{reason="overrun"}')).toBe(dropped(streams[0]!))
    const survivors = allOf(streams).map((payload) => payload.trim())
    expect(survivors.slice(-10)).toEqual(payloads(10, 990))
    expect(new Set(survivors).size).toBe(survivors.length)
    // What was dropped was reported to the others. A reader that joins now gets no gap for it.
    const later = await openStream(`${url}a`)
    await send('a', payloads(3, 1000))
    expect((await later.next()).data.payload).toMatch(/^100/)
    later.close()
    for (const stream of streams) stream.close()
    await expectNothingLeft(bridge)
  })

  test('cannot resume, which a gap says, and go on', async () => {
    const { bridge, send, url } = await started({ STREAM_LINGER_MS: 60_000 })
    const stream = await openStream(`${url}a`)
    await send('a', payloads(1))
    const { id } = await stream.next()
    stream.close()
    await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
    await send('a', payloads(2, 1))
    const back = await openStream(`${url}a`, { 'last-event-id': id! })
    expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
    // Messages that came during the linger waited for the next reader.
    expect((await back.take(2)).map(({ data }) => data.payload)).toEqual(['1', '2'])
    expect(await metric(bridge, 'causeway_stream_resumes_total{result="unknown-id"}')).toBe(1)
  })

  test('of two bridges get each message once in all', async () => {
    const { bridge, settings, send, url } = await started()
    const other = await startBridge({ ...settings, MQTT_URL: brokerUrl(bridge, settings) })
    const streams = [
      await openStream(`${url}a`),
      await openStream(`${url}a`),
      await openStream(`${other.url}/subscribe?topic=$share/g/a`),
    ]
    const otherGroup = await openStream(`${other.url}/subscribe?topic=$share/h/a`)
    await send('a', payloads(500))
    await expect.poll(() => allOf(streams)).toEqual(payloads(500))
    await expect.poll(() => got(otherGroup)).toEqual(payloads(500))
    for (const stream of streams) expect(stream.events.length).toBeGreaterThan(0)
    for (const stream of [...streams, otherGroup]) stream.close()
    await expectNothingLeft(bridge)
    await expectNothingLeft(other)
  })

  test('do not mix shared filters with others, or with such as overlap', async () => {
    const { bridge, url } = await started()
    for (const more of ['a', 'b', '$share/h/a', '$share/h/%23', '$share/g/a']) {
      const { status, body } = await get(bridge, `/subscribe?topic=$share/g/a&topic=${more}`)
      expect(status).toBe(400)
      expect(body).toMatchObject({ code: 'invalid-request', errors: [{ in: 'query', pointer: '#/topic' }] })
    }
    const both = await openStream(`${url}a&topic=$share/h/b`)
    expect(both.status).toBe(200)
    both.close()
    await expectNothingLeft(bridge)
  })
})

test.each(BROKERS.filter(({ protocol }) => protocol === 4))(
  'a shared filter is refused on $name, which may not have them',
  async ({ start }) => {
    const bridge = await startBridge(await start())
    expect(await get(bridge, '/subscribe?topic=$share/g/a')).toMatchObject({
      status: 422,
      body: { code: 'shared-subscriptions-not-supported', retryable: false },
    })
    await expectNothingLeft(bridge)
  },
)
