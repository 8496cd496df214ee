import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get, send } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openSession } from '../../support/session.ts'

const isSession = (peer: Peer) => peer.connect?.clientId.startsWith('causeway-session-') === true

/**
 * Has a session from a CONNECT without Clean Start until one with it, or for ever.
 * @param closesOver whether it closes a connection over its CONNECT
 */
async function startSessionBroker(forgets: boolean, closesOver: (peer: Peer) => boolean = () => false) {
  const sessions = new Set<string>()
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || !isSession(peer)) return false
    if (closesOver(peer)) return (peer.close(), true)
    if (packet.clean === true && forgets) sessions.delete(packet.clientId)
    peer.accept(packet.clean !== true && sessions.has(packet.clientId))
    if (packet.clean !== true) sessions.add(packet.clientId)
    return true
  })
  /** Of each connection of a session: whether it had Clean Start. */
  const connects = () => broker.peers.filter(isSession).map(({ connect }) => connect!.clean === true)
  return { ...broker, sessions, connects }
}

async function openAndForget(bridge: Bridge, name: string) {
  const reader = await openSession(bridge, { name, ack: 'explicit' })
  const answer = await send(bridge, 'DELETE', `/sessions/${reader.about.data.id}`)
  return { reader, answer }
}

describe.each(['5', '3.1.1'])('MQTT %s', (MQTT_PROTOCOL) => {
  test('DELETE of a session that the broker keeps is refused, and its stream ends', async () => {
    const broker = await startSessionBroker(false)
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL })
    for (const name of ['one', 'two']) {
      const { reader, answer } = await openAndForget(bridge, name)
      expect([answer.status, answer.body]).toEqual([502, expect.objectContaining({ code: 'broker-refused' })])
      await reader.ended
      expect(reader.events.at(-1)!.data).toEqual({ session: 'deleted' })
    }
    expect((await get(bridge, '/readyz?verbose')).body).toMatchObject({ broker: { learnt: { sessionsEnd: false } } })
  })

  test('whether the broker forgets sessions is checked once, and the check leaves none behind', async () => {
    const broker = await startSessionBroker(true)
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL })
    expect((await openAndForget(bridge, 'one')).answer.status).toBe(204)
    // The reader, its end, the check, and the end of what the check has begun.
    expect(broker.connects()).toEqual([false, true, false, true])
    const check = broker.peers.filter(isSession)[2]!
    if (MQTT_PROTOCOL === '5') expect(check.connect!.properties?.sessionExpiryInterval ?? 0).toBe(0)
    expect(check.received.filter(({ cmd }) => cmd === 'subscribe')).toEqual([])
    expect((await openAndForget(bridge, 'two')).answer.status).toBe(204)
    expect(broker.connects().slice(4)).toEqual([false, true])
    expect(broker.sessions.size).toBe(0)
  })

  test('DELETE is a 503 where the broker is lost before it has forgotten the session', async () => {
    const broker = await startSessionBroker(true, ({ connect }) => connect!.clean === true)
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL })
    const { reader, answer } = await openAndForget(bridge, 'one')
    expect([answer.status, answer.body]).toEqual([503, expect.objectContaining({ code: 'broker-unavailable' })])
    await reader.ended
    expect(broker.sessions.size).toBe(1)
  })
})
