import { describe, expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { startProxy } from '../../support/proxy.ts'
import { openStream } from '../../support/stream.ts'

// To a client that names no Receive Maximum, Mosquitto by default keeps 20 messages in flight and 1000 waiting ones.
describe.skipIf(!hasMosquitto)('more messages at once than Mosquitto keeps for a client', () => {
  test('all arrive live over MQTT 5', async () => {
    const broker = await startMosquitto()
    const proxy = await startProxy(broker.url)
    const bridge = await startBridge({ MQTT_URL: proxy.url, STREAM_LOG_MESSAGES: 10_000 })
    const outside = await mqttClient(broker.url, { protocolVersion: 5 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    const payloads = Array.from({ length: 5000 }, (_, index) => `${index}`)
    // All of these reach the broker before any acknowledgement of the bridge does.
    proxy.stall('up')
    await Promise.all(payloads.map((payload) => outside.publishAsync('a', payload, { qos: 1 })))
    proxy.flow()
    const events = await stream.take(payloads.length)
    expect(events.map(({ data }) => data.payload)).toEqual(payloads)
    stream.close()
    await expectNothingLeft(bridge)
  })

  test.each(['5', '3.1.1'])('are all read where they are retained, over MQTT %s', async (protocol) => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const outside = await mqttClient(broker.url)
    const topics = Array.from({ length: 3000 }, (_, index) => `r/${index}`)
    await Promise.all(topics.map((topic) => outside.publishAsync(topic, 'x', { qos: 1, retain: true })))
    const { body } = await get(bridge, '/retained?topic=r/%23')
    expect(new Set(body.map(({ topic }: { topic: string }) => topic))).toEqual(new Set(topics))
    expect(body).toHaveLength(topics.length)
  })
})
