import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get, publish } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'

describe.skipIf(!hasMosquitto)('on Mosquitto', () => {
  test('a filter that makes the broker close the connection is given up after a while', async () => {
    const { url } = await startMosquitto()
    // Mosquitto supports 200 levels, and closes the connection if there are more.
    const bridge = await startBridge({ MQTT_URL: url, TOPIC_LEVELS_MAX: 300 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    expect((await get(bridge, `/subscribe?topic=${'a/'.repeat(249)}a`)).status).toBe(503)
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters'), { timeout: 10_000 }).toBe(1)
    await expect
      .poll(
        async () => {
          await publish(bridge, { topic: 'a', payload: 'alive' })
          return stream.events.at(-1)?.data.payload
        },
        { timeout: 10_000 },
      )
      .toBe('alive')
    expect((await openStream(`${bridge.url}/subscribe?topic=b`)).status).toBe(200)
  })
})
