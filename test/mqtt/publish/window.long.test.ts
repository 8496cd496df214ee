import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

describe.each(BROKERS)('many publishes at once, on $name', ({ start }) => {
  test('300 are all acknowledged', async () => {
    const bridge = await startBridge(await start())
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => publish(bridge, { topic: `t/${index % 3}`, qos: 1 + (index % 2) })),
    )
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test('the messages of a topic arrive in the order they were posted, whatever the others do', async () => {
    const settings = await start()
    const bridge = await startBridge({ ...settings, PUBLISH_CONNECTIONS: 4 })
    // Subscribed at QoS 0, so that acknowledgements between broker and subscriber cannot change the order.
    const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), 't/#', 0)
    const topics = ['t/a', 't/b', 't/c', 't/d', 't/e']
    await Promise.all(
      topics.map(async (topic) => {
        for (let index = 0; index < 100; index += 1) {
          expect((await publish(bridge, { topic, payload: `${index}`, qos: index % 3 })).status).toBeLessThan(300)
        }
      }),
    )
    await expect.poll(() => messages.packets.length).toBe(500)
    for (const topic of topics) {
      const order = messages.packets.filter((packet) => packet.topic === topic).map(({ payload }) => Number(payload))
      expect(order).toEqual(Array.from({ length: 100 }, (_, index) => index))
    }
  })
})

/** A broker that answers no publish until it is told to, and counts those that it received. */
async function holdingBroker() {
  const held: { release(): void }[] = []
  let holding = true
  const broker = await startScriptedBroker((packet, peer) => {
    if (!holding || packet.cmd !== 'publish' || packet.qos !== 1 || !isPublisher(peer)) return false
    held.push({ release: () => peer.send({ cmd: 'puback', messageId: packet.messageId! }) })
    return true
  })
  return {
    ...broker,
    held,
    answer() {
      holding = false
      for (const { release } of held) release()
    },
  }
}

test('never more than the broker’s Receive Maximum is on the wire', async () => {
  const broker = await holdingBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1 })
  const publishing = Promise.all(Array.from({ length: 60 }, () => publish(bridge, { topic: 'a' })))
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(60)
  expect(broker.held).toHaveLength(20)
  broker.held[0]!.release()
  await expect.poll(() => broker.held.length).toBe(21)
  broker.answer()
  expect((await publishing).map(({ status }) => status)).toEqual(Array.from({ length: 60 }, () => 200))
})

test('a publish beyond the limit in number is refused at once, with Retry-After', async () => {
  const broker = await holdingBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_MAX_IN_FLIGHT: 30 })
  const publishing = Promise.all(Array.from({ length: 30 }, () => publish(bridge, { topic: 'a' })))
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(30)
  const refused = await publish(bridge, { topic: 'b' })
  expect(refused).toMatchObject({ status: 503, body: { code: 'overloaded', retryable: true, outcome: 'not-sent' } })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="overloaded"}')).toBe(1)
  broker.answer()
  expect((await publishing).map(({ status }) => status)).toEqual(Array.from({ length: 30 }, () => 200))
  expect(await publish(bridge, { topic: 'b' })).toMatchObject({ status: 200 })
})

test('a publish beyond the limit in bytes is refused too, but a single message always has room', async () => {
  const broker = await holdingBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_MAX_IN_FLIGHT_BYTES: 1024 })
  const large = publish(bridge, { topic: 'a', payload: 'x'.repeat(5000) })
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
  expect(await publish(bridge, { topic: 'a', payload: 'x' })).toMatchObject({
    status: 503,
    body: { code: 'overloaded' },
  })
  broker.answer()
  expect(await large).toMatchObject({ status: 200 })
  expect(await publish(bridge, { topic: 'a', payload: 'x' })).toMatchObject({ status: 200 })
})
