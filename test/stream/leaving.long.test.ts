import { type ClientRequest, get as httpGet } from 'node:http'
import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { hasSubscribers, mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft, expectStreams } from '../support/nothing-left.ts'
import { startProxy } from '../support/proxy.ts'
import { openStream } from '../support/stream.ts'

const MESSAGE_BYTES = 100_000
const MESSAGES = 150

describe.each(BROKERS)('a reader that leaves on $name', ({ start }) => {
  test('while nothing happens leaves nothing', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&topic=b/%23`)
    await expectStreams(bridge, 1)
    stream.close()
    await expectNothingLeft(bridge)
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="client"}')).toBe(1)
  })

  test.each(['leaves', 'reads on and leaves'])('while its socket is full and %s leaves nothing', async (how) => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stalled = await openStream(`${bridge.url}/subscribe?topic=a`)
    const reader = await openStream(`${bridge.url}/subscribe?topic=a&qos=0`)
    stalled.pause()
    for (let count = 0; count < MESSAGES; count += 1) {
      await client.publishAsync('a', 'x'.repeat(MESSAGE_BYTES), { qos: 1 })
      await reader.next()
    }
    // The quick reader was written all messages, the stalled one less than nine tenths of them.
    expect(await metric(bridge, 'causeway_stream_bytes_total')).toBeLessThan(1.9 * MESSAGES * MESSAGE_BYTES)
    await expectStreams(bridge, 2)
    if (how !== 'leaves') {
      stalled.resume()
      await stalled.next()
    }
    stalled.close()
    await expectStreams(bridge, 1)
    await publish(bridge, { topic: 'a', payload: 'and on' })
    expect((await reader.next()).data).toMatchObject({ payload: 'and on' })
    reader.close()
    await expectNothingLeft(bridge)
  })
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('a reader that leaves before SUBACK over MQTT %s', (protocol) => {
  test('leaves nothing once the broker answers', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, STREAM_MAX: 1 })
    broker.freeze()
    const request = httpGet(`${bridge.url}/subscribe?topic=a`, { agent: false }).on('error', () => {})
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
    await leave(request)
    broker.thaw()
    await expectNothingLeft(bridge)
    expect(await hasSubscribers(broker.url, 'a')).toBe(false)
    // The stream no longer counts against STREAM_MAX.
    expect((await openStream(`${bridge.url}/subscribe?topic=a`)).status).toBe(200)
  })

  test('does not disturb another one that waits for the same SUBACK', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    broker.freeze()
    const leaving = httpGet(`${bridge.url}/subscribe?topic=a`, { agent: false }).on('error', () => {})
    const staying = openStream(`${bridge.url}/subscribe?topic=a`)
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
    await leave(leaving)
    broker.thaw()
    const stream = await staying
    await expectStreams(bridge, 1)
    await publish(bridge, { topic: 'a', payload: 'here' })
    expect((await stream.next()).data).toMatchObject({ payload: 'here' })
    stream.close()
    await expectNothingLeft(bridge)
  })
})

test.runIf(hasMosquitto).each(['5', '3.1.1'])(
  'a reader that got 504 leaves nothing once the broker answers, over MQTT %s',
  async (protocol) => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 300 })
    proxy.stall('down')
    const topics = ['a', 'b', 'c', 'd']
    // When the last request has timed out, every UNSUBSCRIBE for the first has timed out too.
    for (const topic of topics) expect((await openStream(`${bridge.url}/subscribe?topic=${topic}`)).status).toBe(504)
    proxy.flow()
    await expectNothingLeft(bridge)
    for (const topic of topics) expect([topic, await hasSubscribers(broker.url, topic)]).toEqual([topic, false])
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="subscribe"}')).toBe(0)
  },
)

async function leave(request: ClientRequest): Promise<void> {
  const closed = new Promise((resolve) => request.once('close', resolve))
  request.destroy()
  await closed
}
