import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { publish, send } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openSession } from '../../support/session.ts'
import { openStream } from '../../support/stream.ts'

/** The beginning of a PUBLISH of 100 MB at QoS 1; the rest never comes. */
const HUGE = Uint8Array.of(0x32, 0x80, 0xc2, 0xd7, 0x2f, 0, 1, 0x61, 0, 9)
const message = (payload: string) =>
  ({ cmd: 'publish', topic: 'a', payload, qos: 0, retain: false, dup: false }) as const
const isSubscriber = (peer: Peer) => peer.connect?.clientId.includes('-subscribe-') === true
const isSession = (peer: Peer) => peer.connect?.clientId.startsWith('causeway-session-') === true

test('CONNECT names the largest packet, 16 MiB by default', async () => {
  const broker = await startScriptedBroker(() => {})
  await startBridge({ MQTT_URL: broker.url })
  expect(broker.peers.map(({ connect }) => connect?.properties?.maximumPacketSize)).toEqual(
    broker.peers.map(() => 16_777_216),
  )
})

test.each(['5', '3.1.1'])(
  'over MQTT %s, a larger packet ends the connection as it begins, and the stream goes on behind a gap',
  async (protocol) => {
    const broker = await startScriptedBroker(() => {})
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    const subscriber = broker.peers.findLast(isSubscriber)!
    // In one write with the message before it, which is complete.
    subscriber.send(message('before'))
    subscriber.sendRaw(HUGE)
    const events = await stream.take(4)
    expect(events.map(({ data }) => data.payload ?? data)).toEqual([
      'before',
      { broker: 'disconnected' },
      { reason: 'broker-session-lost' },
      { broker: 'connected' },
    ])
    broker.peers.findLast(isSubscriber)!.send(message('behind'))
    expect((await stream.next()).data).toMatchObject({ payload: 'behind' })
    expect(bridge.logs).toContainEqual(
      expect.objectContaining({
        reason: 'the broker sent a packet of 100000005 bytes; CAUSEWAY_MQTT_MAX_PACKET_BYTES allows 16777216',
      }),
    )
  },
)

test('a packet that comes in one piece with its length is not delivered either', async () => {
  const broker = await startScriptedBroker(() => {})
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1', MQTT_MAX_PACKET_BYTES: 1024 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  broker.peers.findLast(isSubscriber)!.send(message('x'.repeat(1100)))
  expect((await stream.take(3)).map(({ data }) => data)).toEqual([
    { broker: 'disconnected' },
    { reason: 'broker-session-lost' },
    { broker: 'connected' },
  ])
})

test('a session whose broker sends such a message again and again says so once a second, and can be deleted', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    // Each connection that keeps the session gets the message again.
    if (packet.cmd !== 'connect' || !isSession(peer)) return
    isPresent &&= packet.clean !== true
    peer.accept(isPresent)
    if (isPresent && sends) peer.sendRaw(HUGE)
    return true
  })
  let isPresent = true
  let sends = false
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1' })
  const reader = await openSession(bridge)
  sends = true
  broker.peers.findLast(isSession)!.sendRaw(HUGE)
  await expect.poll(() => broker.peers.filter(isSession).length, { timeout: 20_000 }).toBeGreaterThan(4)
  const said = bridge.logs.filter(({ msg }) => String(msg).startsWith('a session cannot go on'))
  expect(said.length).toBeGreaterThan(0)
  expect(said.length).toBeLessThan(broker.peers.filter(isSession).length)
  expect((await publish(bridge, { topic: 'b' })).status).toBe(200)
  sends = false
  await expect
    .poll(async () => (await send(bridge, 'DELETE', `/sessions/${reader.about.data.id}`)).status, { timeout: 20_000 })
    .toBe(204)
})
