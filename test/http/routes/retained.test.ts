import { describe, expect, test } from 'vitest'
import { type Bridge, BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get, publish, publishRaw } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

const retain = async (bridge: Bridge, topic: string, payload: string) =>
  expect((await publishRaw(bridge, `topic=${topic}&retain=true`, payload)).status).toBe(200)
const views = (events: { data: { topic: string; payload: string; retain: boolean } }[]) =>
  events.map(({ data }) => [data.topic, data.payload, data.retain])

describe.each(BROKERS)('on $name', ({ start }) => {
  test('a stream begins with the matching retained messages, which go to the new reader alone', async () => {
    const bridge = await startBridge(await start())
    for (const name of ['a', 'b', 'c']) await retain(bridge, `r/${name}`, `old ${name}`)
    await retain(bridge, 's/x', 'elsewhere')
    const first = await openStream(`${bridge.url}/subscribe?topic=r/%23&topic=r/a&topic=r/%2B`)
    expect(views(await first.take(3)).sort()).toEqual([
      ['r/a', 'old a', true],
      ['r/b', 'old b', true],
      ['r/c', 'old c', true],
    ])
    const second = await openStream(`${bridge.url}/subscribe?topic=r/%23&topic=r/a&topic=r/%2B`)
    expect(views(await second.take(3))).toHaveLength(3)
    // Over 3.1.1 this filter has its own connection, on which the broker sends its own copies.
    const live = await openStream(`${bridge.url}/subscribe?topic=r/a&retained=false`)
    await retain(bridge, 'r/a', 'new a')
    for (const stream of [first, second, live]) expect(views([await stream.next()])).toEqual([['r/a', 'new a', false]])
    const third = await openStream(`${bridge.url}/subscribe?topic=r/a`)
    expect(views([await third.next()])).toEqual([['r/a', 'new a', true]])
    expect([first.events.length, second.events.length]).toEqual([4, 4])
    for (const stream of [first, second, live, third]) stream.close()
    await expectNothingLeft(bridge)
  })

  test('retained=false and a resumed stream skip them', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 60_000 })
    await retain(bridge, 'r/a', 'old')
    const without = await openStream(`${bridge.url}/subscribe?topic=r/a&retained=false`)
    await publish(bridge, { topic: 'r/a', payload: '1' })
    const live = await without.next()
    expect(live.data.payload).toBe('1')
    without.close()
    const resumed = await openStream(`${bridge.url}/subscribe?topic=r/a`, { 'last-event-id': live.id! })
    await publish(bridge, { topic: 'r/a', payload: '2' })
    expect((await resumed.next()).data.payload).toBe('2')
  })

  test('updates while streams join reach each of them once, the last one last', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    let stop = false
    let last = 0
    const updates = (async () => {
      while (!stop) await client.publishAsync('r/x', String((last += 1)), { qos: 1, retain: true })
    })()
    const streams = []
    for (let joined = 0; joined < 20; joined += 1) streams.push(await openStream(`${bridge.url}/subscribe?topic=r/%23`))
    stop = true
    await updates
    for (const stream of streams) {
      await expect.poll(() => stream.events.at(-1)?.data.payload, { timeout: 10_000 }).toBe(String(last))
      const seen = stream.events.map(({ data }) => Number(data.payload))
      // Every update after its first message, once and in order.
      expect(seen).toEqual(Array.from({ length: last - seen[0]! + 1 }, (_, index) => seen[0]! + index))
    }
  })

  test('GET /retained reads one topic as it is, and a filter as an array', async () => {
    const bridge = await startBridge(await start())
    expect((await get(bridge, '/retained?topic=r/a')).body).toMatchObject({ status: 404, code: 'not-found' })
    expect((await get(bridge, '/retained?topic=r/%23')).body).toEqual([])
    await retain(bridge, 'r/a', 'x')
    await publish(bridge, { topic: 'r/b', payload: { n: 1 }, retain: true })
    const one = await get(bridge, '/retained?topic=r/a')
    expect([one.status, one.body, one.headers.get('x-content-type-options')]).toEqual([200, 'x', 'nosniff'])
    expect((await get(bridge, '/retained?topic=r/a', { accept: 'application/json' })).body).toMatchObject([
      { topic: 'r/a', payload: 'x', retain: true },
    ])
    expect((await get(bridge, '/retained?topic=r/%2B&encoding=json')).body).toEqual(
      expect.arrayContaining([expect.objectContaining({ topic: 'r/b', payload: { n: 1 }, encoding: 'json' })]),
    )
    expect((await get(bridge, '/retained?topic=$share/g/r/a')).status).toBe(400)
  })

  test('DELETE /retained clears a topic', async () => {
    const bridge = await startBridge(await start())
    await retain(bridge, 'r/a', 'x')
    expect((await fetch(`${bridge.url}/retained?topic=r/a`, { method: 'DELETE' })).status).toBe(200)
    expect((await get(bridge, '/retained?topic=r/a')).status).toBe(404)
    expect((await fetch(`${bridge.url}/retained?topic=r/%23`, { method: 'DELETE' })).status).toBe(400)
  })

  test('more than the limit is a problem that says so, and costs nobody else', async () => {
    const bridge = await startBridge({ ...(await start()), RETAINED_MAX: 3 })
    for (const name of ['a', 'b', 'c', 'd']) await retain(bridge, `r/${name}`, name)
    expect((await get(bridge, '/retained?topic=r/%23')).body).toMatchObject({ status: 422, code: 'too-many-retained' })
    expect((await get(bridge, '/subscribe?topic=r/%23')).body).toMatchObject({ status: 422, code: 'too-many-retained' })
    expect((await get(bridge, '/retained?topic=r/a')).body).toBe('a')
    expect((await openStream(`${bridge.url}/subscribe?topic=r/%23&retained=false`)).status).toBe(200)
  })
})

describe.skipIf(!hasMosquitto)('on Mosquitto', () => {
  test('what a publisher chose as content type and properties cannot forge a header', async () => {
    const { url } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: url })
    const client = await mqttClient(url, { protocolVersion: 5 })
    await client.publishAsync('r/a', 'x', {
      qos: 1,
      retain: true,
      properties: {
        contentType: 'text/html; charset=utf-8',
        responseTopic: 'ä%',
        correlationData: Buffer.from([1]),
        userProperties: { a: ['1', 'ü'] },
      },
    })
    const { headers } = await get(bridge, '/retained?topic=r/a')
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(headers.get('content-security-policy')).toContain('sandbox')
    expect(decodeURIComponent(headers.get('mqtt-response-topic')!)).toBe('ä%')
    expect(headers.get('mqtt-correlation-data')).toBe('AQ==')
    expect(JSON.parse(decodeURIComponent(headers.get('mqtt-user-properties')!))).toEqual({ a: ['1', 'ü'] })
    await client.publishAsync('r/b', 'x', { qos: 1, retain: true, properties: { contentType: 'nonsense' } })
    expect((await get(bridge, '/retained?topic=r/b')).headers.get('content-type')).toBe('application/octet-stream')
  })

  test('a broker that is away is a 503, a frozen one a 504', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 300 })
    broker.freeze()
    expect((await get(bridge, '/retained?topic=r/a')).status).toBe(504)
    await broker.kill()
    await expect.poll(() => metric(bridge, 'causeway_mqtt_connections{role="retained",state="disconnected"}')).toBe(1)
    expect((await get(bridge, '/retained?topic=r/a')).status).toBe(503)
  })
})
