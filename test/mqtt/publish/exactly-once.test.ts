import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { startCuttingProxy } from '../../support/cutting-proxy.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'

type Place = [direction: 'up' | 'down', cmd: string, place: 'before' | 'behind']

const PLACES: Place[] = [
  ['up', 'publish', 'before'],
  ['up', 'publish', 'behind'],
  ['down', 'pubrec', 'before'],
  ['down', 'pubrec', 'behind'],
  ['up', 'pubrel', 'before'],
  ['up', 'pubrel', 'behind'],
  ['down', 'pubcomp', 'before'],
]

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test.each(PLACES)(
    'a QoS 2 message arrives exactly once when the connection is cut, %s, at %s, %s it',
    async (direction, cmd, place) => {
      const broker = await startMosquitto()
      const proxy = await startCuttingProxy(broker.url, (way, packet, connect) =>
        proxy.cuts === 0 && way === direction && packet.cmd === cmd && connect?.clientId.includes('-publish-')
          ? place
          : undefined,
      )
      const messages = await collect(await mqttClient(broker.url), 'a')
      const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
      expect(await publish(bridge, { topic: 'a', payload: 'once', qos: 2 })).toMatchObject({ status: 200 })
      expect(proxy.cuts).toBe(1)
      expect(await publish(bridge, { topic: 'a', payload: 'end', qos: 2 })).toMatchObject({ status: 200 })
      expect((await messages.next()).payload.toString()).toBe('once')
      expect((await messages.next()).payload.toString()).toBe('end')
    },
  )

  test('many QoS 2 messages arrive exactly once when the connection is cut repeatedly', async () => {
    const broker = await startMosquitto()
    let packets = 0
    const proxy = await startCuttingProxy(broker.url, (_way, packet, connect) => {
      if (
        !connect?.clientId.includes('-publish-') ||
        !['publish', 'pubrec', 'pubrel', 'pubcomp'].includes(packet.cmd)
      ) {
        return undefined
      }
      packets += 1
      // The cuts are far enough apart that no message is in flight at two of them.
      return packets % 400 === 0 ? (packets % 800 === 0 ? 'before' : 'behind') : undefined
    })
    const messages = await collect(await mqttClient(broker.url), 'a')
    const bridge = await startBridge({ MQTT_URL: proxy.url, MQTT_PROTOCOL: protocol })
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => publish(bridge, { topic: 'a', payload: `${index}`, qos: 2 })),
    )
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(proxy.cuts).toBeGreaterThan(1)
    await publish(bridge, { topic: 'a', payload: 'end', qos: 2 })
    const arrived: string[] = []
    while (arrived.at(-1) !== 'end') arrived.push((await messages.next()).payload.toString())
    expect(arrived.slice(0, -1).toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 300 }, (_, index) => `${index}`),
    )
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
  })

  test.each([1, 2])('QoS %i publishes in flight survive a restart of the broker inside their timeout', async (qos) => {
    const broker = await startMosquitto({ persistence: true })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 25_000 })
    expect((await publish(bridge, { topic: 'a', qos })).status).toBe(200)
    broker.freeze()
    // No more than are sent at once. Others would wait, and get 503 when the broker is gone.
    const publishing = Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        publish(bridge, { topic: `a/${index}`, qos, payload: `${index}`, retain: true }),
      ),
    )
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(10)
    await broker.stop()
    await broker.start()
    expect((await publishing).map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200))
    const messages = await collect(await mqttClient(broker.url), 'a/#')
    const arrived = await Promise.all(Array.from({ length: 10 }, () => messages.next()))
    expect(arrived.map(({ payload }) => Number(payload)).toSorted((a, b) => a - b)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ])
  })
})

describe.runIf(hasMosquitto)('a broker without its session', () => {
  test('a QoS 1 publish frozen, killed and started without persistence is sent again', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 25_000 })
    broker.freeze()
    const publishing = publish(bridge, { topic: 'a', payload: 'x', retain: true })
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
    await broker.kill()
    await broker.start()
    expect(await publishing).toMatchObject({ status: 200 })
    expect((await (await collect(await mqttClient(broker.url), 'a')).next()).payload.toString()).toBe('x')
  })

  test('a QoS 2 publish is not sent again: its outcome is unknown', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 25_000 })
    broker.freeze()
    const publishing = publish(bridge, { topic: 'a', qos: 2 })
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
    await broker.kill()
    await broker.start()
    expect(await publishing).toMatchObject({ status: 502, body: { code: 'publish-interrupted', outcome: 'unknown' } })
  })
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])(
  'a reconnect that is cut before CONNACK, over MQTT %s',
  (protocol) => {
    test('leaves no QoS 2 message half acknowledged at the broker, so later publishes are not refused', async () => {
      const broker = await startMosquitto({ config: ['max_inflight_messages 20'] })
      let pubrecs = 0
      let publishers = 0
      const proxy = await startCuttingProxy(broker.url, (_way, packet, connect) => {
        if (!connect?.clientId.includes('-publish-')) return undefined
        if (packet.cmd === 'connect' && pubrecs >= 20) publishers += 1
        // The bridge does not know whether this CONNECT has begun a new session.
        if (packet.cmd === 'connack' && publishers === 1) return 'before'
        if (packet.cmd !== 'pubrec' || publishers > 0) return undefined
        pubrecs += 1
        return pubrecs < 20 ? 'drop' : 'before'
      })
      const bridge = await startBridge({
        MQTT_URL: proxy.url,
        MQTT_PROTOCOL: protocol,
        PUBLISH_CONNECTIONS: 1,
        PUBLISH_TIMEOUT_MS: 20_000,
      })
      const unknown = await Promise.all(Array.from({ length: 20 }, () => publish(bridge, { topic: 'a', qos: 2 })))
      expect(unknown.map(({ status, body }) => [status, body.outcome])).toEqual(Array(20).fill([502, 'unknown']))
      expect(proxy.cuts).toBe(2)
      await expect.poll(() => bridge.isReachable()).toBe(true)
      const later = await Promise.all(
        Array.from({ length: 60 }, (_, index) => publish(bridge, { topic: 'a', qos: 1 + (index % 2) })),
      )
      expect(later.filter(({ status }) => status !== 200)).toEqual([])
    })
  },
)

test('“packet identifier not found” for the first PUBREL is no acknowledgement', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'pubrel' || !isPublisher(peer)) return false
    peer.send({ cmd: 'pubcomp', messageId: packet.messageId!, reasonCode: 0x92 })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  expect(await publish(bridge, { topic: 'a', qos: 2 })).toMatchObject({ status: 502, body: { outcome: 'unknown' } })
})
