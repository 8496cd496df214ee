import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

describe.each(BROKERS)('on $name', ({ start }) => {
  test('readers of overlapping filters get each message once, while filters come and go', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const readers = await Promise.all(
      ['topic=a/%23', 'topic=a/%2B', 'topic=a/b', 'topic=a/%23&topic=a/%2B&topic=a/b'].map((query) =>
        openStream(`${bridge.url}/subscribe?${query}`),
      ),
    )
    let stop = false
    const churn = (async () => {
      while (!stop) (await openStream(`${bridge.url}/subscribe?topic=%2B/b&topic=a/b/%23&topic=%23`)).close()
    })()
    const numbers = Array.from({ length: 300 }, (_, number) => String(number))
    for (const number of numbers) await client.publishAsync('a/b', number, { qos: 1 })
    for (const reader of readers) expect((await reader.take(300)).map(({ data }) => data.payload)).toEqual(numbers)
    stop = true
    await churn
    await client.publishAsync('a/b', 'last', { qos: 1 })
    for (const reader of readers) {
      expect((await reader.next()).data.payload).toBe('last')
      reader.close()
    }
    await expectNothingLeft(bridge)
  })
})

describe.skipIf(!hasMosquitto)('over MQTT 3.1.1', () => {
  test('filters that overlap take connections of their own, up to a limit', async () => {
    const { url } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL: '3.1.1', SUBSCRIBE_CONNECTIONS_MAX: 2 })
    await openStream(`${bridge.url}/subscribe?topic=a/b&topic=c/d`)
    expect(await metric(bridge, 'causeway_mqtt_connections{role="subscribe",state="connected"}')).toBe(1)
    await openStream(`${bridge.url}/subscribe?topic=a/%2B`)
    expect(await metric(bridge, 'causeway_mqtt_connections{role="subscribe",state="connected"}')).toBe(2)
    const { status, body, headers } = await get(bridge, '/subscribe?topic=%23')
    expect([status, body.code, headers.get('retry-after')]).toEqual([503, 'too-many-overlaps', '5'])
  })
})

test('a reader cut off on a quiet topic continues from where it began', async () => {
  const bridge = await startBridge({ STREAM_LINGER_MS: 60_000 })
  const quiet = await openStream(`${bridge.url}/subscribe?topic=q`)
  await expect.poll(() => quiet.text()).toMatch(/^id: /m)
  const id = /^id: (.+)$/m.exec(quiet.text())![1]!
  quiet.close()
  const client = await mqttClient(bridge.embeddedUrl!)
  await client.publishAsync('q', 'meanwhile', { qos: 1 })
  const back = await openStream(`${bridge.url}/subscribe?topic=q&lastEventId=${id}`)
  expect((await back.next()).data.payload).toBe('meanwhile')
})
