import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'

const messages = (qos: number, outcome: string) => `causeway_publish_messages_total{qos="${qos}",outcome="${outcome}"}`

describe.each(BROKERS)('publishing is counted, on $name', ({ name, protocol, start }) => {
  test('by how it ended, and in bytes and seconds where it succeeded', async () => {
    const bridge = await startBridge(await start())
    for (const qos of [0, 1, 1, 2, 2, 2]) await publish(bridge, { topic: 'nobody', payload: '12345', qos })
    await publish(bridge, { topic: 'bad/#' })
    expect(await metric(bridge, messages(0, 'sent'))).toBe(1)
    expect(await metric(bridge, messages(1, protocol === 5 ? 'no_subscribers' : 'acknowledged'))).toBe(2)
    // Mosquitto 2.0 says at QoS 1 alone that nobody subscribes.
    expect(
      await metric(bridge, messages(2, name === 'embedded broker, MQTT 5' ? 'no_subscribers' : 'acknowledged')),
    ).toBe(3)
    expect(await metric(bridge, 'causeway_publish_bytes_total')).toBe(30)
    expect(await metric(bridge, 'causeway_publish_ack_seconds_count{qos="1"}')).toBe(2)
    expect(await metric(bridge, 'causeway_publish_ack_seconds_count{qos="2"}')).toBe(3)
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    expect(await metric(bridge, 'causeway_http_requests_total{method="POST",route="/publish",status_code="400"}')).toBe(
      1,
    )
  })
})

test.runIf(hasMosquitto)('a refusal is counted with its reason, and not as bytes published', async () => {
  const bridge = await startBridge({ MQTT_URL: (await startMosquitto({ acl: ['topic readwrite open'] })).url })
  expect((await publish(bridge, { topic: 'secret', payload: 'xyz' })).status).toBe(403)
  expect((await publish(bridge, { topic: 'open', payload: '12345' })).status).toBe(200)
  expect(await metric(bridge, messages(1, 'rejected'))).toBe(1)
  expect(await metric(bridge, 'causeway_publish_rejections_total{reason="not-authorized"}')).toBe(1)
  expect(await metric(bridge, 'causeway_publish_bytes_total')).toBe(5)
  expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
})

test.runIf(hasMosquitto)('a broker that freezes shows in what is in flight, waits and ages', async () => {
  const broker = await startMosquitto({ config: ['max_inflight_messages 10'] })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_MAX_IN_FLIGHT: 50 })
  const value = (name: string) => metric(bridge, `causeway_${name}`)
  expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
  expect([await value('publish_in_flight_limit'), await value('publish_oldest_seconds')]).toEqual([50, 0])
  expect(await value('mqtt_receive_maximum')).toBe(10)
  expect(await value('mqtt_protocol_connections{protocol="5"}')).toBeGreaterThan(0)
  expect(await value('broker_reachable')).toBe(1)
  const acknowledgedBefore = await value('publish_last_ack_age_seconds')
  broker.freeze()
  const answers = Promise.all(Array.from({ length: 15 }, () => publish(bridge, { topic: 'a' })))
  await expect.poll(() => value('publish_in_flight')).toBe(15)
  expect(await value('publish_waiting')).toBe(5)
  const oldest = await value('publish_oldest_seconds')
  expect(oldest).toBeGreaterThan(0)
  expect(await value('publish_last_ack_age_seconds')).toBeGreaterThan(acknowledgedBefore)
  broker.thaw()
  await answers
  expect([await value('publish_waiting'), await value('publish_oldest_seconds')]).toEqual([0, 0])
})
