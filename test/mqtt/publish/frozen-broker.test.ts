import type { Packet } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

describe.runIf(hasMosquitto)('a broker that freezes', () => {
  test.each(['5', '3.1.1'])(
    'over MQTT %s: what was sent is unknown, what waited behind it was not sent',
    async (protocol) => {
      const broker = await startMosquitto()
      const bridge = await startBridge({
        MQTT_URL: broker.url,
        MQTT_PROTOCOL: protocol,
        PUBLISH_TIMEOUT_MS: 300,
        PUBLISH_CONNECTIONS: 1,
      })
      broker.freeze()
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          publish(bridge, { topic: 'a', payload: `${index}`, qos: 1 + (index % 2) }),
        ),
      )
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 504))
      const outcomes = answers.map(({ body }) => body.outcome)
      expect(outcomes.filter((outcome) => outcome === 'unknown')).toHaveLength(20)
      expect(outcomes.filter((outcome) => outcome === 'not-sent')).toHaveLength(30)
      expect(answers[0]!.body).toMatchObject({ code: 'acknowledgement-timeout', retryable: true })
      expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="timeout"}')).toBe(25)
      expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
      broker.thaw()
      await expect.poll(async () => (await publish(bridge, { topic: 'a' })).status, { timeout: 20_000 }).toBe(200)
    },
  )

  test('what was answered “not sent” never arrives', async () => {
    const broker = await startMosquitto()
    const messages = await collect(
      await mqttClient(broker.url, { reconnectPeriod: 100, clean: false, clientId: 'listener' }),
      'a',
    )
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 300 })
    broker.freeze()
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, index) => publish(bridge, { topic: 'a', payload: `${index}` })),
    )
    broker.thaw()
    await expect
      .poll(async () => (await publish(bridge, { topic: 'a', payload: 'end' })).status, { timeout: 20_000 })
      .toBe(200)
    const arrived: string[] = []
    while (arrived.at(-1) !== 'end') arrived.push((await messages.next()).payload.toString())
    const unsent = answers.flatMap(({ body }, index) => (body.outcome === 'not-sent' ? [`${index}`] : []))
    expect(unsent).toHaveLength(10)
    expect(arrived.filter((payload) => unsent.includes(payload))).toEqual([])
  })
})

test('a late acknowledgement does not acknowledge another message', async () => {
  let answering = false
  const held: Packet[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !isPublisher(peer) || answering) return false
    held.push(packet)
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_TIMEOUT_MS: 200 })
  expect(await publish(bridge, { topic: 'a' })).toMatchObject({ status: 504, body: { outcome: 'unknown' } })
  const publisher = broker.peers.findLast(isPublisher)!
  const second = publish(bridge, { topic: 'a' })
  await expect.poll(() => held.length).toBe(2)
  publisher.send({ cmd: 'puback', messageId: (held[0] as { messageId: number }).messageId })
  expect(await second).toMatchObject({ status: 504 })
  expect(new Set(held.map((packet) => (packet as { messageId: number }).messageId)).size).toBe(2)
  answering = true
  expect(await publish(bridge, { topic: 'a' })).toMatchObject({ status: 200 })
})

test('a timed out QoS 2 message is released after a reconnect, not published again', async () => {
  let silent = true
  const broker = await startScriptedBroker((packet, peer) => isPublisher(peer) && packet.cmd === 'publish' && silent)
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, PUBLISH_TIMEOUT_MS: 200 })
  const answers = await Promise.all([1, 2].map((qos) => publish(bridge, { topic: 'a', qos, payload: 'late' })))
  expect(answers.map(({ status }) => status)).toEqual([504, 504])
  silent = false
  const first = broker.peers.findLast(isPublisher)!
  first.close()
  await expect
    .poll(async () => (await publish(bridge, { topic: 'a', payload: 'new' })).status, { timeout: 20_000 })
    .toBe(200)
  const second = broker.peers.findLast(isPublisher)!
  expect(second).not.toBe(first)
  const qos2 = first.received.find((packet) => packet.cmd === 'publish' && packet.qos === 2) as { messageId: number }
  // It is released after the publishes that callers wait for.
  await expect
    .poll(() => second.received.filter(({ cmd }) => cmd === 'pubrel'))
    .toMatchObject([{ messageId: qos2.messageId }])
  const payloads = second.received.flatMap((packet) => (packet.cmd === 'publish' ? [packet.payload.toString()] : []))
  expect(payloads).toContain('new')
  expect(payloads).not.toContain('late')
})
