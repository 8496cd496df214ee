import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { startProxy } from '../../support/proxy.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

const reasons = ({ events }: StreamReader) =>
  events.filter(({ event }) => event === 'gap').map(({ data }) => data.reason)
const payloads = ({ events }: StreamReader) =>
  events.filter(({ event }) => event === 'message').map(({ data }) => data.payload)
const isBack = ({ events }: StreamReader) =>
  events.findLast(({ event }) => event === 'status')?.data.broker === 'connected'

/** A read of retained messages waits until it is known whether markers work. */
async function markersWork(bridge: Bridge): Promise<void> {
  await (await fetch(`${bridge.url}/retained?topic=nothing`)).text()
}

describe.skipIf(!hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  const settings = { MQTT_PROTOCOL: protocol, MQTT_CLIENT_ID: 'same' }

  test.each([['a'], ['#'], ['+/marker/#']])(
    'a session of another client with the same client id is no session of a stream of %s',
    { timeout: 30_000 },
    async (filter) => {
      const broker = await startMosquitto()
      const outside = await mqttClient(broker.url)
      const proxy = await startProxy(broker.url)
      const bridge = await startBridge({ MQTT_URL: proxy.url, ...settings })
      await markersWork(bridge)
      const stream = await openStream(`${bridge.url}/subscribe?topic=${encodeURIComponent(filter)}&topic=a`)
      await outside.publishAsync('a', 'first', { qos: 1 })
      await expect.poll(() => payloads(stream)).toContain('first')
      await proxy.refuse()
      const twin = await mqttClient(broker.url, {
        clientId: 'same-subscribe-0',
        clean: true,
        reconnectPeriod: 0,
        ...(protocol === '5' ? { protocolVersion: 5, properties: { sessionExpiryInterval: 300 } } : {}),
      })
      twin.end(true)
      if (protocol === '3.1.1') {
        // Its session outlives its connection only where it began without a clean session.
        const kept = await mqttClient(broker.url, { clientId: 'same-subscribe-0', clean: false, reconnectPeriod: 0 })
        await kept.subscribeAsync('#', { qos: 1 })
        kept.end(true)
      }
      await outside.publishAsync('a', 'lost', { qos: 1 })
      await proxy.accept()
      await expect.poll(() => reasons(stream), { timeout: 15_000 }).toContain('broker-session-lost')
      await expect.poll(() => isBack(stream), { timeout: 15_000 }).toBe(true)
      await outside.publishAsync('a', 'second', { qos: 1 })
      await expect.poll(() => payloads(stream)).toContain('second')
    },
  )

  test(
    'a bridge that gets the messages of another one’s session ends it, so that the other one knows',
    { timeout: 60_000 },
    async () => {
      const broker = await startMosquitto()
      const outside = await mqttClient(broker.url)
      const [proxyA, proxyB] = [await startProxy(broker.url), await startProxy(broker.url)]
      const b = await startBridge({ MQTT_URL: proxyB.url, ...settings })
      await markersWork(b)
      const streamB = await openStream(`${b.url}/subscribe?topic=b`)
      await proxyB.refuse()
      const a = await startBridge({ MQTT_URL: proxyA.url, ...settings })
      await markersWork(a)
      const streamA = await openStream(`${a.url}/subscribe?topic=a`)
      await outside.publishAsync('a', 'first', { qos: 1 })
      await expect.poll(() => payloads(streamA)).toEqual(['first'])
      await proxyA.refuse()
      await outside.publishAsync('a', 'taken by the other', { qos: 1 })
      await proxyB.accept()
      await expect.poll(() => isBack(streamB), { timeout: 15_000 }).toBe(true)
      await expect.poll(() => reasons(streamB), { timeout: 15_000 }).toContain('broker-session-lost')
      await expect
        .poll(
          async () => {
            await outside.publishAsync('b', 'alone', { qos: 1 })
            return payloads(streamB)
          },
          { timeout: 15_000 },
        )
        .toContain('alone')
      expect(payloads(streamB)).not.toContain('taken by the other')
      await proxyA.accept()
      await expect.poll(() => reasons(streamA), { timeout: 15_000 }).toContain('broker-session-lost')
      let sent = 0
      const arrives = async (stream: StreamReader, topic: string) => {
        sent += 1
        const payload = `${sent}`
        await outside.publishAsync(topic, payload, { qos: 1 })
        return expect
          .poll(() => payloads(stream), { timeout: 500 })
          .toContain(payload)
          .then(
            () => true,
            () => false,
          )
      }
      for (const [stream, topic] of [
        [streamA, 'a'],
        [streamB, 'b'],
      ] as const) {
        await expect.poll(() => arrives(stream, topic), { timeout: 30_000 }).toBe(true)
      }
    },
  )

  const withoutMarkers = { acl: ['topic readwrite a', 'topic read #'] }

  test.each([
    ['a client id of its own is no gap', {}, undefined, []],
    ['a client id that is configured is no gap where markers work', settings, undefined, []],
    ['a client id that is configured is a gap where they do not', settings, withoutMarkers, ['broker-session-lost']],
    ['a client id of its own is no gap where they do not', {}, withoutMarkers, []],
  ])('an outage with %s', { timeout: 30_000 }, async (_what, ids, options, gaps) => {
    const broker = await startMosquitto(options)
    const outside = await mqttClient(broker.url)
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, ...ids })
    await markersWork(bridge)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    for (let outage = 1; outage <= 2; outage += 1) {
      await proxy.refuse()
      await expect.poll(() => isBack(stream)).toBe(false)
      await outside.publishAsync('a', `kept ${outage}`, { qos: 1 })
      await proxy.accept()
      await expect.poll(() => payloads(stream), { timeout: 15_000 }).toContain(`kept ${outage}`)
      await expect.poll(() => isBack(stream), { timeout: 15_000 }).toBe(true)
    }
    await outside.publishAsync('a', 'last', { qos: 1 })
    await expect.poll(() => payloads(stream)).toContain('last')
    expect(payloads(stream)).toEqual(['kept 1', 'kept 2', 'last'])
    expect(reasons(stream)).toEqual([...gaps, ...gaps])
  })

  test('a bridge without streams keeps its client id, however often its link is cut', { timeout: 30_000 }, async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, ...settings })
    await markersWork(bridge)
    for (let outage = 1; outage <= 3; outage += 1) {
      await proxy.refuse()
      await expect.poll(() => bridge.isReachable()).toBe(false)
      await proxy.accept()
      await expect.poll(() => bridge.isReachable(), { timeout: 15_000 }).toBe(true)
      await markersWork(bridge)
    }
    expect(bridge.logs.filter(({ newClientId }) => newClientId !== undefined)).toEqual([])
  })
})
