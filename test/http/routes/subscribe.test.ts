import { describe, expect, test } from 'vitest'
import { BROKERS, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get, publish } from '../../support/http.ts'
import { hasSubscribers } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { startProxy } from '../../support/proxy.ts'
import { openStream } from '../../support/stream.ts'

describe.each(BROKERS)('a stream on $name', ({ start }) => {
  test('begins with the headers of an event stream that nothing on the way may keep', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    expect(stream.status).toBe(200)
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    })
    expect(stream.headers).not.toHaveProperty('content-length')
  })

  test('tells the reader once, first of all, how long to wait before it reconnects', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await publish(bridge, { topic: 'a' })
    await publish(bridge, { topic: 'a' })
    await stream.take(2)
    expect(stream.text()).toMatch(/^retry: \d+\nevent: status\nid: \S+\ndata: \{"broker":"connected"\}\n\n/)
    expect(stream.text().match(/^retry:/gm)).toHaveLength(1)
  })

  test('delivers every event under an id of one epoch and a growing sequence', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    const other = await openStream(`${bridge.url}/subscribe?topic=b`)
    for (const topic of ['a', 'b', 'a', 'b', 'a']) await publish(bridge, { topic })
    const ids = [...(await stream.take(3)), ...(await other.take(2))].map(({ id }) =>
      /^([0-9a-z]+)-(\d+)$/.exec(id ?? ''),
    )
    expect(new Set(ids.map((id) => id?.[1])).size).toBe(1)
    const [first, third, fifth, second, fourth] = ids.map((id) => Number(id?.[2]))
    expect([first, second, third, fourth, fifth]).toEqual([first, second, third, fourth, fifth].sort((a, b) => a! - b!))
    expect(new Set([first, second, third, fourth, fifth]).size).toBe(5)
  })

  test('of another process has another epoch', async () => {
    const settings = await start()
    const epochs = new Set<string>()
    for (let run = 0; run < 2; run += 1) {
      const bridge = await startBridge(settings)
      const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
      await publish(bridge, { topic: 'a' })
      epochs.add((await stream.next()).id!.split('-')[0]!)
    }
    expect(epochs.size).toBe(2)
  })

  test('shows a sign of life while nothing happens, which is no event', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_HEARTBEAT_MS: 20 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await expect.poll(() => stream.text().match(/^:\n/gm)?.length ?? 0).toBeGreaterThan(2)
    expect(stream.events).toEqual([])
    await publish(bridge, { topic: 'a', payload: 'behind them' })
    expect((await stream.next()).data).toMatchObject({ payload: 'behind them' })
  })

  test('is asked for by any Accept that takes event streams', async () => {
    const bridge = await startBridge(await start())
    for (const accept of [
      'text/event-stream',
      '*/*',
      'text/*',
      'application/json, text/event-stream;q=0.5',
      'Text/Event-Stream; charset=utf-8',
    ]) {
      const stream = await openStream(`${bridge.url}/subscribe?topic=a`, { accept })
      expect([accept, stream.status, stream.headers['content-type']]).toEqual([
        accept,
        200,
        'text/event-stream; charset=utf-8',
      ])
      stream.close()
    }
    await expectNothingLeft(bridge)
  })
})

describe.runIf(hasMosquitto)('a broker that does not answer SUBSCRIBE', () => {
  test.each(['5', '3.1.1'])('gets the reader 504 and no stream, over MQTT %s', async (protocol) => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 300 })
    broker.freeze()
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await stream.ended
    expect(stream.status).toBe(504)
    expect(stream.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(JSON.parse(stream.text())).toMatchObject({
      status: 504,
      code: 'acknowledgement-timeout',
      outcome: 'unknown',
      retryable: true,
    })
  })

  test('keeps the headers back until SUBACK', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url })
    proxy.stall('down')
    let answered = false
    const opening = openStream(`${bridge.url}/subscribe?topic=a`).then((stream) => {
      answered = true
      return stream
    })
    await expect.poll(() => hasSubscribers(broker.url, 'a')).toBe(true)
    // If the headers had been written earlier, they would have arrived before this answer.
    await get(bridge, '/livez')
    expect(answered).toBe(false)
    proxy.flow()
    expect((await opening).status).toBe(200)
  })
})
