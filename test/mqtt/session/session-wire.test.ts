import type { Packet } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { publish, send } from '../../support/http.ts'
import { startProxy } from '../../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { acknowledge, openSession, told, trySession } from '../../support/session.ts'

const isSession = (peer: Peer) => peer.connect?.clientId.startsWith('causeway-session-') === true
const packets = (peer: Peer, cmd: Packet['cmd']) => peer.received.filter((packet) => packet.cmd === cmd)
const acknowledged = (peer: Peer) => packets(peer, 'puback').map(({ messageId }) => messageId)
const message = (messageId: number, payload: string, dup = false) => ({
  cmd: 'publish' as const,
  topic: 'a',
  payload: Buffer.from(payload),
  qos: 1 as const,
  retain: false,
  dup,
  messageId,
})

/** A broker that keeps sessions. `session()` is the peer of the session's latest connection. */
async function startSessionBroker(onConnect: (peer: Peer) => boolean | void = () => {}) {
  const broker = await startScriptedBroker((packet, peer) =>
    packet.cmd === 'connect' && isSession(peer) ? onConnect(peer) : undefined,
  )
  return { ...broker, session: () => broker.peers.findLast(isSession)! }
}

test('a session connects without Clean Start, with its expiry and limit, and leaves without ending it', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, SESSION_EXPIRY_S: 77, SESSION_MAX_UNACKED: 9 })
  const reader = await openSession(bridge)
  const { connect } = broker.session()
  expect(connect).toMatchObject({ clean: false, properties: { sessionExpiryInterval: 77, receiveMaximum: 65_535 } })
  expect(packets(broker.session(), 'subscribe')).toMatchObject([{ subscriptions: [{ topic: 'a', qos: 1, rh: 1 }] }])
  reader.close()
  await expect.poll(() => packets(broker.session(), 'disconnect')).toMatchObject([{ reasonCode: 0 }])
  expect(packets(broker.session(), 'disconnect')[0]).not.toHaveProperty('properties.sessionExpiryInterval')
})

test.each([
  ['5', (peer: Peer, messageId: number) => peer.send({ cmd: 'suback', messageId, granted: [0x91] })],
  ['3.1.1', (peer: Peer) => peer.close()],
] as const)(
  'a session is taken up where the broker refuses the ids of its own messages in SUBSCRIBE, MQTT %s',
  async (protocol, refuse) => {
    const broker = await startScriptedBroker((packet, peer) => {
      if (!isSession(peer)) return false
      if (packet.cmd === 'connect') {
        peer.accept(true)
        for (const id of [1, 2, 3]) peer.send(message(id, `${id}`, true))
        return true
      }
      if (packet.cmd !== 'subscribe' || packet.messageId! > 3) return false
      refuse(peer, packet.messageId!)
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const reader = await openSession(bridge, { ack: 'explicit' })
    expect(told(await reader.take(3))).toEqual(['!1', '!2', '!3'])
  },
)

test('the expiry in the first event is the broker’s, if it differs from the configured one', async () => {
  const broker = await startSessionBroker((peer) => {
    peer.send({
      cmd: 'connack',
      sessionPresent: false,
      reasonCode: 0,
      properties: { sessionExpiryInterval: 60 },
    } as Packet)
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  expect((await openSession(bridge)).about.data).toMatchObject({ present: false, expiry: 60 })
})

test('PUBACKs follow the reader’s acknowledgements in message order, on the next connection too', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge, { ack: 'explicit' })
  const first = broker.session()
  first.send(message(30, 'x'), message(10, 'y'), message(20, 'z'))
  const events = await reader.take(3)
  expect(acknowledged(first)).toEqual([])
  await acknowledge(bridge, reader, events[1]!)
  await expect.poll(() => acknowledged(first)).toEqual([30, 10])
  first.close()
  expect((await reader.next()).data).toEqual({ broker: 'disconnected' })
  await acknowledge(bridge, reader, events[2]!)
  expect((await reader.next()).data).toEqual({ broker: 'connected' })
  const second = broker.session()
  // The broker lost the PUBACK of 10 and sends the message again. The bridge forgot it after writing that PUBACK, so
  // the reader gets it again. PUBACK of 20 was never written, so that message is recognized and not delivered twice.
  second.send(message(10, 'y', true), message(20, 'z', true), message(30, 'new'))
  expect(told(await reader.take(2))).toEqual(['!y', 'new'])
  expect(acknowledged(second)).toEqual([])
  await acknowledge(bridge, reader, reader.events.at(-1)!)
  await expect.poll(() => acknowledged(second)).toEqual([10, 20, 30])
})

// mochi and comqtt. Two bridges that took the session from each other went on with that for ever.
test('a DISCONNECT over MQTT 3.1.1 says nothing: after two of them another client has the session', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1' })
  const reader = await openSession(bridge, { ack: 'explicit' })
  const close = (peer: Peer) => {
    peer.send({ cmd: 'disconnect' } as Packet)
    peer.close()
  }
  close(broker.session())
  expect((await reader.next()).data).toEqual({ broker: 'disconnected' })
  expect((await reader.next()).data).toEqual({ broker: 'connected' })
  close(broker.session())
  await expect.poll(() => reader.events.at(-1)?.data).toEqual({ session: 'taken-over' })
})

test('a broker that says that the session was taken over ends it at once', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge, { ack: 'explicit' })
  const peer = broker.session()
  peer.send({ cmd: 'disconnect', reasonCode: 0x8e } as Packet)
  peer.close()
  expect((await reader.next()).data).toEqual({ session: 'taken-over' })
  await reader.ended
  expect(broker.session()).toBe(peer)
  expect((await trySession(bridge, { ack: 'explicit', lastEventId: reader.about.id })).status).toBe(204)
})

test('a session is refused and ended if the broker refuses a filter or grants only QoS 0', async () => {
  const granted = [0x87, 0]
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || !isSession(peer)) return false
    peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [granted.shift()!] })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  for (const expected of [
    [403, 'not-authorized'],
    [422, 'qos-not-supported'],
  ]) {
    const refused = await trySession(bridge)
    await refused.ended
    expect([refused.status, JSON.parse(refused.text()).code]).toEqual(expected)
  }
  expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
})

test('a shutdown ends the stream and leaves the session to the broker', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge, { ack: 'explicit' })
  broker.session().send(message(1, 'x'))
  await reader.next()
  await bridge.close()
  await reader.ended
  expect(reader.text()).toMatch(/retry: \d+\n$/)
  expect(packets(broker.session(), 'disconnect')[0]).not.toHaveProperty('properties.sessionExpiryInterval')
  expect(acknowledged(broker.session())).toEqual([])
})

test('messages that come right after CONNACK are not lost', async () => {
  const broker = await startSessionBroker((peer) => {
    peer.accept(true)
    peer.send(...[1, 2, 3].map((id) => message(id, `${id}`, true)))
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge)
  // The session was there before, and nobody knows what its last reader got.
  expect(reader.about.data).toMatchObject({ present: true, unknown: true })
  expect(told(await reader.take(4))).toEqual(['gap', '!1', '!2', '!3'])
  await expect.poll(() => acknowledged(broker.session())).toEqual([1, 2, 3])
})

test('a session that the broker lost is restored once its filters are granted again', async () => {
  let held: (() => void) | undefined
  let isNew = false
  const broker = await startScriptedBroker((packet, peer) => {
    if (!isNew || !isSession(peer)) return false
    if (packet.cmd === 'connect') peer.accept(false)
    else if (packet.cmd === 'subscribe') {
      held = () => peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: [1] })
    } else return false
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge, { ack: 'explicit' })
  isNew = true
  broker.peers.findLast(isSession)!.close()
  expect((await reader.take(2)).map(({ data }) => data)).toEqual([
    { broker: 'disconnected' },
    { reason: 'broker-session-lost' },
  ])
  await expect.poll(() => held).toBeDefined()
  expect(reader.events).toHaveLength(3)
  held!()
  expect((await reader.next()).data).toEqual({ broker: 'connected' })
})

// HTTP cannot tell whether the last reader elsewhere got what was flushed to its socket and acknowledged for it.
test('with ack=auto a session that another process had begins with a gap, and with ack=explicit it does not', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || !isSession(peer)) return false
    peer.accept(true)
    return true
  })
  const settings = { MQTT_URL: broker.url, STREAM_LINGER_MS: 60_000 }
  const auto = await openSession(await startBridge(settings), { ack: 'auto' })
  expect(auto.about.data).toMatchObject({ unknown: true })
  expect((await auto.next()).data).toEqual({ reason: 'unknown-id' })
  const explicit = await openSession(await startBridge(settings), { ack: 'explicit' })
  expect(explicit.about.data).not.toHaveProperty('unknown')
})

test('a session that cannot be ended because the broker is away leaves no MQTT client behind', async () => {
  const broker = await startSessionBroker()
  const proxy = await startProxy(broker.url)
  const bridge = await startBridge({ MQTT_URL: proxy.url })
  const reader = await openSession(bridge, { ack: 'explicit' })
  const { id } = reader.about.data as { id: string }
  reader.close()
  await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
  const before = broker.peers.filter(isSession).length
  await proxy.refuse()
  expect((await send(bridge, 'DELETE', `/sessions/${id}`)).status).toBe(503)
  await proxy.accept()
  await expect.poll(async () => (await publish(bridge, { topic: 'b' })).status).toBe(200)
  expect(await metric(bridge, 'causeway_mqtt_connections{role="session",state="disconnected"}')).toBe(0)
  expect(broker.peers.filter(isSession)).toHaveLength(before)
})

test('a broker that caps the session expiry at 0 is an error of the request', async () => {
  const broker = await startSessionBroker((peer) => {
    peer.send({
      cmd: 'connack',
      sessionPresent: false,
      reasonCode: 0,
      properties: { sessionExpiryInterval: 0 },
    } as Packet)
    return true
  })
  const refused = await trySession(await startBridge({ MQTT_URL: broker.url }))
  await refused.ended
  expect(JSON.parse(refused.text())).toMatchObject({ status: 501, code: 'sessions-not-supported', retryable: false })
})

test('a session that another client has is tried again while its broker hands it over', async () => {
  let refusals = 3
  const broker = await startSessionBroker((peer) => {
    if (refusals === 0) return
    refusals -= 1
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  expect((await openSession(bridge)).about.data).toMatchObject({ name: 'reader' })
  expect(refusals).toBe(0)
})

test('client ids of sessions have their prefix, and with a secret nobody can compute them', async () => {
  const broker = await startSessionBroker()
  const ids: string[] = []
  for (const settings of [
    {},
    { SESSION_CLIENT_ID: 'gateway-' },
    { MQTT_CLIENT_ID: 'one' },
    { SESSION_SECRET: 'a secret of thirty-two characters at least' },
    { SESSION_SECRET: 'another secret of thirty-two characters' },
  ]) {
    const reader = await openSession(await startBridge({ MQTT_URL: broker.url, ...settings }))
    ids.push(broker.peers.filter(({ connect }) => connect?.clean === false).at(-1)!.connect!.clientId)
    reader.close()
  }
  expect(ids[0]).toMatch(/^causeway-session-/)
  expect(ids[1]).toBe(ids[0]!.replace('causeway-session-', 'gateway-'))
  expect(ids[2]).toBe(ids[0]!.replace('causeway-session-', 'one-session-'))
  expect(new Set(ids).size).toBe(5)
})
