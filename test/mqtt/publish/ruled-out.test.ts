import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

describe.runIf(hasMosquitto)(
  'what the broker does not support is refused before it is sent, and the connection kept',
  () => {
    test.each([
      ['QoS 2', ['max_qos 1'], { qos: 2 }, 422, 'qos-not-supported'],
      ['QoS 1 where only 0 is taken', ['max_qos 0'], { qos: 1 }, 422, 'qos-not-supported'],
      ['retain', ['retain_available false'], { retain: true }, 422, 'retain-not-supported'],
      ['a packet too large', ['max_packet_size 200'], { payload: 'x'.repeat(200) }, 413, 'payload-too-large'],
    ])('%s', async (_name, config, message, status, code) => {
      const bridge = await startBridge({ MQTT_URL: (await startMosquitto({ config })).url })
      expect(await publish(bridge, { topic: 'a', ...message })).toMatchObject({
        status,
        body: { code, retryable: false },
      })
      expect((await publish(bridge, { topic: 'a', qos: 0 })).status).toBe(202)
      expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
      expect(await metric(bridge, `causeway_publish_rejections_total{reason="${code}"}`)).toBe(1)
    })

    test('a message over a size limit that CONNACK does not tell interrupts no other publish', async () => {
      const bridge = await startBridge({ MQTT_URL: (await startMosquitto({ config: ['message_size_limit 100'] })).url })
      const [large, ...good] = await Promise.all([
        publish(bridge, { topic: 'a', payload: 'x'.repeat(101) }),
        ...Array.from({ length: 50 }, () => publish(bridge, { topic: 'a', payload: 'x'.repeat(100) })),
      ])
      expect(good.map(({ status }) => status)).toEqual(good.map(() => 200))
      expect(large.status).toBeGreaterThanOrEqual(400)
    })
  },
)

test('a packet of exactly the maximum size is sent, and one byte more is not', async () => {
  const seen: number[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'publish') seen.push(packet.length!)
    if (packet.cmd !== 'connect') return false
    peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0, properties: { maximumPacketSize: 100 } })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  // 2 bytes of fixed header, 3 of topic, 2 of packet identifier, 1 of properties.
  expect(await publish(bridge, { topic: 'a', payload: 'x'.repeat(92) })).toMatchObject({ status: 200 })
  expect(await publish(bridge, { topic: 'a', payload: 'x'.repeat(93) })).toMatchObject({ status: 413 })
  expect(seen).toEqual([98])
})
