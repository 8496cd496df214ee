import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'

const messages = (qos: number, outcome: string) => `causeway_publish_messages_total{qos="${qos}",outcome="${outcome}"}`

describe.each(BROKERS)('publishing is counted, on $name', ({ start, protocol }) => {
  test('by how it ended, and in bytes and seconds where it succeeded', async () => {
    const bridge = await startBridge(await start())
    for (const qos of [0, 1, 1, 2, 2, 2]) await publish(bridge, { topic: 'nobody', payload: '12345', qos })
    await publish(bridge, { topic: 'bad/#' })
    expect(await metric(bridge, messages(0, 'sent'))).toBe(1)
    expect(await metric(bridge, messages(1, protocol === 5 ? 'no_subscribers' : 'acknowledged'))).toBe(2)
    expect(await metric(bridge, messages(2, 'acknowledged'))).toBe(3)
    expect(await metric(bridge, 'causeway_publish_bytes_total')).toBe(30)
    expect(await metric(bridge, 'causeway_publish_ack_seconds_count{qos="1"}')).toBe(2)
    expect(await metric(bridge, 'causeway_publish_ack_seconds_count{qos="2"}')).toBe(3)
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    expect(
      await metric(
        bridge,
        'causeway_http_request_duration_seconds_count{method="POST",route="/publish",status_code="400"}',
      ),
    ).toBe(1)
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
