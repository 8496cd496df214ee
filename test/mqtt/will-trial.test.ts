import { expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { get } from '../support/http.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'

const SAID = 'the broker does not keep a will that is to be retained'
const isReader = ({ connect }: Peer) => connect?.clientId.endsWith('-will-reader') === true
const learnt = async (bridge: Parameters<typeof get>[0]) =>
  (await get(bridge, '/readyz?verbose')).body.broker.learnt.retainedWills

test.runIf(hasMosquitto).each(['5', '3.1.1'])(
  'a broker that keeps the will is found out, and nothing of the trial stays, MQTT %s',
  async (MQTT_PROTOCOL) => {
    const { url } = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL, STATUS_TOPIC: 'bridges' })
    await expect.poll(() => learnt(bridge), { timeout: 10_000 }).toBe(true)
    expect(bridge.logs.some(({ msg }) => String(msg).startsWith(SAID))).toBe(false)
    const client = await mqttClient(url)
    const left: string[] = []
    client.on('message', (topic) => /will|end/.test(topic) && left.push(topic))
    await client.subscribeAsync('causeway/marker/#', { qos: 1 })
    await client.publishAsync('causeway/marker/end', 'end', { qos: 1 })
    await expect.poll(() => left.at(-1)).toBe('causeway/marker/end')
    expect(left).toHaveLength(1)
  },
)

// Moquette.
test('a broker that publishes the will and does not retain it is said once', async () => {
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'connect' || !peer.connect!.clientId.endsWith('-will')) return false
      peer.accept(false)
      void peer.closed.then(() => {
        const { topic, payload } = packet.will!
        const will = { cmd: 'publish', topic, payload, qos: 1, retain: false, dup: false, messageId: 1 } as const
        broker.peers.findLast(isReader)!.send(will)
      })
      return true
    },
    { handlesMarkers: false },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url, STATUS_TOPIC: 'bridges' })
  await expect.poll(() => learnt(bridge), { timeout: 10_000 }).toBe(false)
  expect(bridge.logs.filter(({ msg }) => String(msg).startsWith(SAID))).toHaveLength(1)
})
