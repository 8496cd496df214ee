import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { hasSubscribers, mqttClient } from '../support/mqtt-client.ts'
import { openStream } from '../support/stream.ts'

describe.each(BROKERS)('closing the bridge on $name', ({ start }) => {
  test('ends every stream, and asks its client to come back', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 60_000 })
    const streams = await Promise.all(
      ['a', 'a', 'b/%23'].map((topic) => openStream(`${bridge.url}/subscribe?topic=${topic}`)),
    )
    const left = await openStream(`${bridge.url}/subscribe?topic=lingers`)
    left.close()
    await bridge.close()
    for (const stream of streams) {
      await stream.ended
      expect(stream.text().match(/^retry: \d+$/gm)).toHaveLength(2)
    }
  })

  test('does not wait for a reader that has stopped reading, whatever is on its way to it', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const topics = [0, 1, 10, 100, 200]
    const stalled = await Promise.all(topics.map((topic) => openStream(`${bridge.url}/subscribe?topic=${topic}`)))
    const reader = await openStream(`${bridge.url}/subscribe?${topics.map((topic) => `topic=${topic}`).join('&')}`)
    for (const stream of stalled) stream.pause()
    for (const topic of topics) {
      for (let count = 0; count < topic; count += 1) {
        await client.publishAsync(`${topic}`, 'x'.repeat(100_000), { qos: 1 })
        await reader.next()
      }
    }
    await bridge.close()
    await reader.ended
  })

  test('twice does the same as once', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await Promise.all([bridge.close(), bridge.close()])
    await stream.ended
  })
})

describe.runIf(hasMosquitto)('a bridge that has closed', () => {
  test.each(['5', '3.1.1'])('has left nothing at the broker, not even a session, over MQTT %s', async (protocol) => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    await openStream(`${bridge.url}/subscribe?topic=a`)
    expect(await hasSubscribers(broker.url, 'a')).toBe(true)
    await bridge.close()
    expect(await hasSubscribers(broker.url, 'a')).toBe(false)
  })

  test('did so although the broker was frozen', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    broker.freeze()
    await bridge.close()
    await stream.ended
  })

  test('did so although a stream was waiting for SUBACK, whatever became of that', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    broker.freeze()
    const opening = openStream(`${bridge.url}/subscribe?topic=a`).catch(() => undefined)
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
    const closed = bridge.close()
    // The listener closes first, so a refused request shows that closing has begun.
    await expect
      .poll(() =>
        fetch(bridge.url).then(
          () => 'open',
          () => 'closed',
        ),
      )
      .toBe('closed')
    broker.thaw()
    await closed
    await (
      await opening
    )?.ended
    expect(await hasSubscribers(broker.url, 'a')).toBe(false)
  })
})
