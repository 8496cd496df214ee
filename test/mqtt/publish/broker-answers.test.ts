import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish, send } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

/** A broker that acknowledges publishes with the reason code in their payload. */
async function brokerOfCodes() {
  return startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
    const id = packet.messageId!
    const code = Number(packet.payload.toString())
    // mqtt-packet does not write codes that are not in its tables.
    peer.sendRaw([packet.qos === 1 ? 0x40 : 0x50, 3, id >> 8, id & 0xff, code])
    return true
  })
}

describe('reason codes', () => {
  test.each([1, 2])('QoS %i: any code refuses or acknowledges its own publish, and no other one', async (qos) => {
    const broker = await brokerOfCodes()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    for (const [code, status] of [
      [0x95, 413],
      [0x93, 502],
      [0x9a, 422],
      [0x9b, 422],
      [0x97, 429],
      [0xf0, 502],
      [0x01, 200],
    ] as const) {
      const { status: got, body } = await publish(bridge, { topic: 'a', payload: `${code}`, qos })
      expect([code, got]).toEqual([code, status])
      expect(body.mqtt?.reasonCode ?? body.reasonCode).toBe(code)
    }
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })

  test.each([0x82, 0x8a, 0x99, 0xf0])('SUBACK 0x%s refuses its stream alone', async (code) => {
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'subscribe' || packet.subscriptions[0]!.topic !== 'refused') return false
      peer.sendRaw([0x90, 4, packet.messageId! >> 8, packet.messageId! & 0xff, 0, code])
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const { status, body } = await send(bridge, 'GET', '/subscribe?topic=refused&retained=false')
    expect(status).toBeGreaterThanOrEqual(422)
    expect(body.mqtt.reasonCode).toBe(code)
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="subscribe"}')).toBe(0)
  })

  test.runIf(hasMosquitto)('a message beyond the broker’s own limit is 413', async () => {
    const broker = await startMosquitto({ config: ['message_size_limit 100'] })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    for (const qos of [1, 2]) {
      const { status, body } = await publish(bridge, { topic: 'a', payload: 'x'.repeat(200), qos })
      expect([status, body.code, body.mqtt?.reasonCode]).toEqual([413, 'payload-too-large', 0x95])
    }
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')).toBe(0)
  })
})

describe.runIf(hasMosquitto)('matchedSubscribers', () => {
  test('is true only once the broker was seen to say at that QoS that nobody subscribes', async () => {
    const broker = await startMosquitto()
    await (await mqttClient(broker.url)).subscribeAsync('a')
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const matched = async (topic: string, qos: number) =>
      (await publish(bridge, { topic, qos })).body.matchedSubscribers
    expect(await matched('a', 1)).toBeNull()
    expect(await matched('nobody', 1)).toBe(false)
    expect(await matched('a', 1)).toBe(true)
    // Mosquitto 2.0 says 0x00 in each PUBREC.
    expect(await matched('nobody', 2)).toBeNull()
    expect(await matched('a', 2)).toBeNull()
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="no_subscribers"}')).toBe(1)
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="2",outcome="acknowledged"}')).toBe(2)
  })
})

test.each(['5', '3.1.1'])(
  'over MQTT %s, PUBACK for QoS 2 acknowledges it as QoS 1, as the result says',
  async (protocol) => {
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
      peer.send({ cmd: 'puback', messageId: packet.messageId! })
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_CONNECTIONS: 1 })
    const answers = await Promise.all(Array.from({ length: 50 }, () => publish(bridge, { topic: 'a', qos: 2 })))
    for (const { status, body } of answers) {
      expect([status, body]).toEqual([
        200,
        {
          topic: 'a',
          qos: 1,
          reasonCode: protocol === '5' ? 0 : null,
          reason: expect.stringContaining('PUBACK'),
          matchedSubscribers: null,
        },
      ])
    }
  },
)
