import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { canRefuseSubscriptions, startRefusingMosquitto } from '../../support/dynamic-security.ts'
import { publish } from '../../support/http.ts'
import { hasSubscribers } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

describe.runIf(canRefuseSubscriptions).each([
  { protocol: '5', status: 403, code: 'not-authorized', mqtt: { reasonCode: 0x87, reason: 'Not authorized' } },
  { protocol: '3.1.1', status: 502, code: 'broker-refused', mqtt: { reasonCode: 0x80, reason: 'Unspecified error' } },
])('a subscription the broker refuses over MQTT $protocol', ({ protocol, status, code, mqtt }) => {
  test('is a problem with the broker’s code, and no stream', async () => {
    const { url } = await startRefusingMosquitto(['secret/#'])
    const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=secret/%23`)
    await stream.ended
    expect(stream.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect([stream.status, JSON.parse(stream.text())]).toMatchObject([
      status,
      { status, code, mqtt, retryable: false, detail: expect.stringContaining('secret/#') },
    ])
    await expectNothingLeft(bridge)
  })

  test('leaves nothing subscribed of the stream’s other filters', async () => {
    const { url } = await startRefusingMosquitto(['secret/#'])
    const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&topic=secret/%23&topic=b/%23`)
    expect(stream.status).toBe(status)
    await expectNothingLeft(bridge)
    for (const topic of ['a', 'b/1', 'secret/1']) {
      expect([topic, await hasSubscribers(url, topic)]).toEqual([topic, false])
    }
  })

  test('costs the streams that are open nothing, those of the same filters among them', async () => {
    const { url } = await startRefusingMosquitto(['secret/#'])
    const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL: protocol })
    const open = await openStream(`${bridge.url}/subscribe?topic=a`)
    const refused = await Promise.all(
      Array.from({ length: 5 }, () => openStream(`${bridge.url}/subscribe?topic=secret/%23&topic=a`)),
    )
    expect(refused.map((stream) => stream.status)).toEqual(Array.from({ length: 5 }, () => status))
    // The bridge unsubscribes after it has answered the requests.
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters'), { timeout: 10_000 }).toBe(1)
    await publish(bridge, { topic: 'a', payload: 'still here' })
    expect(await open.next()).toMatchObject({ event: 'message', data: { payload: 'still here' } })
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="subscribe"}')).toBe(0)
  })

  test('ends the streams it was granted to before, when it is refused to them on the way back', async () => {
    const broker = await startRefusingMosquitto([])
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const refused = await openStream(`${bridge.url}/subscribe?topic=secret/%23`)
    const other = await openStream(`${bridge.url}/subscribe?topic=a`)
    broker.refuse(['secret/#'])
    await broker.kill()
    await broker.start()
    await refused.ended
    expect(refused.events.at(-1)).toMatchObject({
      event: 'gap',
      data: { reason: 'subscription-refused', detail: expect.stringContaining('secret/#') },
    })
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="refused"}')).toBe(1)
    for (const [index, event] of ['status', 'gap', 'status'].entries()) {
      expect([index, (await other.next()).event]).toEqual([index, event])
    }
    await expect.poll(() => hasSubscribers(broker.url, 'a')).toBe(true)
    expect((await other.next()).data).toMatchObject({ topic: 'a' })
    other.close()
    await expectNothingLeft(bridge)
  })
})
