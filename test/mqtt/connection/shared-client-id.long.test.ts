import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { get, publish } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

const named = (bridge: Bridge) =>
  bridge.logs.filter(({ msg }) => String(msg).startsWith('another client of the broker uses the same client id'))

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('two bridges with one client id, over MQTT %s', (protocol) => {
  test('find out, say so, and both go on behind a gap', { timeout: 90_000 }, async () => {
    const { url } = await startMosquitto()
    const settings = { MQTT_URL: url, MQTT_PROTOCOL: protocol, MQTT_CLIENT_ID: 'same' }
    const one = await startBridge(settings)
    const first = await openStream(`${one.url}/subscribe?topic=a&retained=false`)
    const two = await startBridge(settings)
    // While they end each other's connections, it may be a 503.
    let second = await openStream(`${two.url}/subscribe?topic=a&retained=false`)
    while (second.status === 503) second = await openStream(`${two.url}/subscribe?topic=a&retained=false`)
    await expect.poll(() => named(one).length + named(two).length, { timeout: 20_000 }).toBeGreaterThan(0)
    const ids = async (bridge: Bridge): Promise<string[]> =>
      (await get(bridge, '/readyz?verbose')).body.connections.map(({ clientId }: { clientId: string }) => clientId)
    const shared = async () => {
      const others = new Set(await ids(two))
      return (await ids(one)).filter((id) => others.has(id))
    }
    await expect.poll(shared, { timeout: 20_000 }).toEqual([])
    await expect.poll(() => one.isReachable() && two.isReachable(), { timeout: 20_000 }).toBe(true)
    let sent = 0
    const arrives = async (stream: StreamReader) => {
      sent += 1
      const payload = `${sent}`
      const { status } = await publish(sent % 2 === 0 ? one : two, { topic: 'a', payload })
      if (status !== 200) return false
      await expect.poll(() => stream.events.some(({ data }) => data.payload === payload)).toBe(true)
      return true
    }
    for (const stream of [first, second]) await expect.poll(() => arrives(stream), { timeout: 30_000 }).toBe(true)
    expect(first.events.map(({ data }) => data.reason)).toContain('broker-session-lost')
    // Nothing is taken from anybody any more.
    const reconnects = async () => {
      const texts = await Promise.all([one, two].map(async ({ url }) => (await fetch(`${url}/metrics`)).text()))
      return texts.flatMap((text) => text.match(/^causeway_mqtt_reconnects_total.*$/gm))
    }
    const before = await reconnects()
    for (let round = 0; round < 20; round += 1) await arrives(first)
    expect(await reconnects()).toEqual(before)
    // Both may notice it before one of them has changed its ids.
    for (const bridge of [one, two]) expect(named(bridge).length).toBeLessThanOrEqual(1)
  })
})

test('DISCONNECT with “session taken over” is enough', async () => {
  const broker = await startScriptedBroker(() => {})
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CLIENT_ID: 'same' })
  const evicted = broker.peers.find(({ connect }) => connect?.clientId === 'same-subscribe-0' && !connect.clean)!
  evicted.send({ cmd: 'disconnect', reasonCode: 0x8e })
  evicted.close()
  const ids = () => broker.peers.map(({ connect }) => connect!.clientId)
  await expect.poll(() => ids().at(-1)).toMatch(/^same-subscribe-0-[0-9a-f]{8}$/)
  expect(named(bridge)).toMatchObject([{ clientId: 'same-subscribe-0', newClientId: ids().at(-1) }])
})

test('a broker that closes over a filter is not taken for another client', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || packet.subscriptions[0]!.topic !== 'bad') return false
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CLIENT_ID: 'same' })
  for (let round = 0; round < 6; round += 1) {
    expect((await get(bridge, '/subscribe?topic=bad&retained=false')).status).toBe(503)
  }
  expect(named(bridge)).toEqual([])
})

test('a broker that continues a session that was ended is not connected to for ever', { timeout: 60_000 }, async () => {
  const isSubscriber = ({ connect }: Peer): boolean => connect?.clientId.startsWith('same-subscribe-0') === true
  let connects = 0
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'connect' || packet.clean || !isSubscriber(peer)) return false
      connects += 1
      // As no broker should: each connection with this client id was preceded by one with a clean session.
      peer.accept(connects > 1 && packet.clientId === 'same-subscribe-0')
      return true
    },
    {
      // The first connection is lost before its session is marked.
      onMarkersSubscribed(by) {
        if (connects === 1 && isSubscriber(by)) by.close()
      },
    },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1', MQTT_CLIENT_ID: 'same' })
  await expect.poll(() => named(bridge), { timeout: 30_000 }).toMatchObject([{ clientId: 'same-subscribe-0' }])
  await expect.poll(bridge.isReachable, { timeout: 15_000 }).toBe(true)
  const before = connects
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  broker.peers.findLast(isSubscriber)!.send({
    cmd: 'publish',
    topic: 'a',
    payload: 'x',
    qos: 1,
    messageId: 1,
    retain: false,
    dup: false,
  })
  expect((await stream.next()).data.payload).toBe('x')
  expect(connects).toBe(before)
})
