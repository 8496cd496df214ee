import type { Packet } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
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
  expect(connect).toMatchObject({ clean: false, properties: { sessionExpiryInterval: 77, receiveMaximum: 9 } })
  expect(packets(broker.session(), 'subscribe')).toMatchObject([{ subscriptions: [{ topic: 'a', qos: 1, rh: 1 }] }])
  reader.close()
  await expect.poll(() => packets(broker.session(), 'disconnect')).toMatchObject([{ reasonCode: 0 }])
  expect(packets(broker.session(), 'disconnect')[0]).not.toHaveProperty('properties.sessionExpiryInterval')
})

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

test('a broker that says that the session was taken over ends it at once', async () => {
  const broker = await startSessionBroker()
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const reader = await openSession(bridge)
  const peer = broker.session()
  peer.send({ cmd: 'disconnect', reasonCode: 0x8e } as Packet)
  peer.close()
  expect((await reader.next()).data).toEqual({ session: 'taken-over' })
  await reader.ended
  expect(broker.session()).toBe(peer)
  expect((await trySession(bridge, { lastEventId: reader.about.id })).status).toBe(204)
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
  expect(reader.text()).toMatch(/retry: \d+\n\n$/)
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
  expect(told(await reader.take(3))).toEqual(['!1', '!2', '!3'])
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
  const reader = await openSession(bridge)
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
