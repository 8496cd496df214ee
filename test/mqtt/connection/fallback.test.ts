import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'

const protocols = (peers: Peer[]) =>
  new Set(
    peers
      .filter(({ received }) => received.some(({ cmd }) => cmd === 'publish'))
      .map(({ connect }) => connect?.protocolVersion),
  )

/** For those that never answer. */
const MQTT_CONNECT_TIMEOUT_MS = 500

/** The protocol that the bridge uses now, told by whether the result has a reason code: 3.1.1 has none. */
const speaks = async (bridge: Bridge) =>
  (await publish(bridge, { topic: 'a' })).body.reasonCode === null ? '3.1.1' : '5'

describe.each<[string, () => Promise<string>]>([
  ['the embedded broker', async () => 'embedded:'],
  ...(hasMosquitto ? [['Mosquitto', async () => (await startMosquitto()).url] satisfies [string, unknown]] : []),
])('%s, which speaks both', (_name, start) => {
  test.each([
    ['auto', '5'],
    ['5', '5'],
    ['3.1.1', '3.1.1'],
  ])('CAUSEWAY_MQTT_PROTOCOL=%s speaks %s', async (protocol, spoken) => {
    expect(await speaks(await startBridge({ MQTT_URL: await start(), MQTT_PROTOCOL: protocol }))).toBe(spoken)
  })
})

describe.each([
  ['refuses MQTT 5 with the old return code', (peer: Peer) => peer.sendRaw(Uint8Array.of(0x20, 2, 0, 1))],
  [
    'refuses MQTT 5 with its own reason code',
    (peer: Peer) => peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x84 }),
  ],
  ['closes an MQTT 5 connection without an answer, as RabbitMQ does', () => {}],
  ['leaves an MQTT 5 CONNECT unanswered, as amqtt does', undefined],
])('a broker that %s', (_name, refuse) => {
  const start = () =>
    startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'connect' || packet.protocolVersion !== 5) return false
      if (refuse === undefined) return true
      refuse(peer)
      peer.close()
      return true
    })

  test('is connected to over 3.1.1', async () => {
    const broker = await start()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CONNECT_TIMEOUT_MS })
    expect(await publish(bridge, { topic: 'a', qos: 2 })).toMatchObject({
      status: 200,
      body: { reasonCode: null, matchedSubscribers: null },
    })
    expect([...protocols(broker.peers)]).toEqual([4])
  })

  test('is reconnected to over 3.1.1 after the connection was lost', async () => {
    const broker = await start()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CONNECT_TIMEOUT_MS })
    await publish(bridge, { topic: 'a' })
    for (const peer of broker.peers) peer.close()
    await expect
      .poll(() => metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}'), { timeout: 10_000 })
      .toBe(2)
    expect(await publish(bridge, { topic: 'a' })).toMatchObject({ status: 200, body: { reasonCode: null } })
  })

  test('is not connected to if the setting allows only MQTT 5', async () => {
    const settings = { MQTT_URL: (await start()).url, MQTT_PROTOCOL: '5', MQTT_CONNECT_TIMEOUT_MS }
    const bridge = await startBridge(settings, { waitForBroker: false })
    expect((await publish(bridge, { topic: 'a' })).status).toBe(503)
  })
})

test('a broker that never answers MQTT 5 is named for that, and after the second time it is not asked again', async () => {
  const broker = await startScriptedBroker((packet) => packet.cmd === 'connect' && packet.protocolVersion === 5)
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CONNECT_TIMEOUT_MS, PUBLISH_CONNECTIONS: 1 })
  expect(bridge.logs.find(({ msg }) => String(msg).includes('does not answer MQTT 5'))).toMatchObject({
    msg: `mqtt://127.0.0.1:${broker.port} does not answer MQTT 5; trying MQTT 3.1.1`,
    reason: `it did not answer CONNECT within ${MQTT_CONNECT_TIMEOUT_MS} ms`,
  })
  for (const expected of [1, 2]) {
    await publish(bridge, { topic: 'a' })
    for (const peer of broker.peers.splice(0)) peer.close()
    const reconnects = () => metric(bridge, 'causeway_mqtt_reconnects_total{role="publish"}')
    await expect.poll(reconnects, { timeout: 10_000 }).toBe(expected)
    await expect.poll(() => bridge.isReachable(), { timeout: 10_000 }).toBe(true)
  }
  expect(broker.peers.length).toBeGreaterThan(0)
  expect(broker.peers.map(({ connect }) => connect?.protocolVersion)).not.toContain(5)
})

describe.runIf(hasMosquitto)('a broker that cannot be reached', () => {
  test('does not make the bridge fall back to 3.1.1', async () => {
    const broker = await startMosquitto()
    await broker.kill()
    const bridge = await startBridge({ MQTT_URL: broker.url }, { waitForBroker: false })
    await broker.start()
    await expect.poll(async () => (await publish(bridge, { topic: 'a' })).status, { timeout: 20_000 }).toBe(200)
    expect(await speaks(bridge)).toBe('5')
  })
})
