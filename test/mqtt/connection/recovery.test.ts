import { expect, test } from 'vitest'
import { Broker, type Member } from '../../../src/mqtt/connection/broker.ts'
import { metric, startBridge } from '../../support/bridge.ts'
import { get, publish } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'

const server = (url: string) => ({ url, username: undefined, password: undefined })

function newBroker(...urls: string[]): Broker {
  return new Broker({
    servers: urls.map(server),
    protocol: 'auto',
    endpoint: () => ({ keepaliveS: 30, connectTimeoutMs: 5000, maxPacketBytes: 1_000_000 }),
  })
}

function newMember() {
  const calls: string[] = []
  const member = {
    calls,
    report: undefined as never,
    wake: () => void calls.push('wake'),
    checkAlive: () => void calls.push('check'),
  } satisfies Member & { calls: string[] }
  return member
}

test('the first connection that succeeds wakes all others, once', () => {
  const broker = newBroker('mqtt://one')
  const members = [newMember(), newMember(), newMember()]
  for (const member of members) broker.join(member)
  for (const member of members) broker.connected(member, broker.target(undefined))
  expect(members.map(({ calls }) => calls)).toEqual([[], ['wake'], ['wake']])
})

test('a suspicion checks those that are connected, and not the one that it began with', () => {
  const broker = newBroker('mqtt://one')
  const [suspicious, connected, away] = [newMember(), newMember(), newMember()]
  for (const member of [suspicious, connected, away]) broker.join(member)
  for (const member of [suspicious, connected]) broker.connected(member, broker.target(undefined))
  broker.suspect(suspicious, 'mqtt://one')
  expect([suspicious, connected, away].map(({ calls }) => calls.includes('check'))).toEqual([false, true, false])
})

test('no address is left while a connection to it stands', () => {
  const broker = newBroker('mqtt://one', 'mqtt://two')
  const [member, other] = [newMember(), newMember()]
  const first = broker.target(undefined)
  broker.connected(member, first)
  expect([broker.failed(first), broker.address]).toEqual([false, 'mqtt://one:1883'])
  broker.lost(member)
  expect([broker.failed(first), broker.address]).toEqual([true, 'mqtt://two:1883'])
  // Another connection that fails at the old address goes to the same new one.
  expect([broker.failed(first), broker.address]).toEqual([true, 'mqtt://two:1883'])
  broker.connected(other, broker.target(undefined))
  expect([broker.failed(broker.target(undefined)), broker.address]).toEqual([false, 'mqtt://two:1883'])
})

test('a connection that few requests need does not make the bridge unready', async () => {
  const isRequester = (peer: Peer) => peer.connect?.clientId.endsWith('-request') === true
  let refuses = false
  const broker = await startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect' || !refuses || !isRequester(peer)) return
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '5' })
  refuses = true
  for (const peer of broker.peers.filter(isRequester)) peer.close()
  const away = 'causeway_mqtt_connections{role="request",state="disconnected"}'
  await expect.poll(() => metric(bridge, away)).toBe(1)
  expect((await get(bridge, '/readyz')).status).toBe(200)
  expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
})
