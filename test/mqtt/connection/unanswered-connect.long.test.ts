import { describe, expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { startProxy } from '../../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openSession } from '../../support/session.ts'
import { openStream } from '../../support/stream.ts'

const subscribes = (peer: Peer) =>
  peer.received.flatMap((packet) => (packet.cmd === 'subscribe' ? packet.subscriptions.map(({ topic }) => topic) : []))

test.each(['5', '3.1.1'])(
  'a session that began with a lost CONNACK is not taken for the one before, over MQTT %s',
  async (protocol) => {
    let unanswered = 0
    const broker = await startScriptedBroker((packet, peer) => {
      // The broker starts a new session, but its CONNACK is lost. At the next CONNECT it says that it has a session.
      if (packet.cmd !== 'connect' || unanswered === 0 || !packet.clientId.includes('-subscribe-')) return false
      unanswered -= 1
      peer.beginSession()
      peer.close()
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    unanswered = 1
    broker.peers.find((peer) => subscribes(peer).length > 0)!.close()
    expect((await stream.take(3)).map(({ event, data }) => [event, data])).toEqual([
      ['status', { broker: 'disconnected' }],
      ['gap', { reason: 'broker-session-lost' }],
      ['status', { broker: 'connected' }],
    ])
    const last = broker.peers.findLast((peer) => peer.connect?.clientId.includes('-subscribe-'))!
    expect(subscribes(last)).toEqual(['a'])
  },
)

test('a session is still the same one after the broker refused connections', async () => {
  const broker = await startScriptedBroker(() => false)
  const proxy = await startProxy(broker.url)
  const bridge = await startBridge({ MQTT_URL: proxy.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  await proxy.refuse()
  await expect.poll(async () => (await get(bridge, '/readyz')).status).toBe(503)
  await proxy.accept()
  expect((await stream.take(2)).map(({ data }) => data)).toEqual([{ broker: 'disconnected' }, { broker: 'connected' }])
})

describe.each(['5', '3.1.1'])('a CONNECT that stayed unanswered, over MQTT %s', (protocol) => {
  /** A broker that resets so many connections after CONNECT. Whether that begins a new session, a test says. */
  async function start(role: string, beginsSession: boolean) {
    let resets = 0
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'connect' || resets === 0 || !packet.clientId.includes(`-${role}-`)) return false
      resets -= 1
      if (beginsSession) peer.beginSession()
      peer.close()
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    // Markers are tried out when the bridge connects.
    await (await openStream(`${bridge.url}/subscribe?topic=before`)).close()
    return {
      bridge,
      broker,
      cut(times: number) {
        resets = times
        broker.peers.findLast(({ connect }) => connect?.clientId.includes(`-${role}-`))!.close()
      },
    }
  }

  test.each([
    ['is no gap of a stream without retained messages if the broker kept its session', false],
    ['is a gap of a stream if it began a new session', true],
  ])('%s', async (_what, beginsSession) => {
    const { bridge, cut } = await start('subscribe', beginsSession)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    for (const times of [1, 3]) {
      cut(times)
      const lost = beginsSession ? [{ reason: 'broker-session-lost' }] : []
      expect((await stream.take(2 + lost.length)).map(({ data }) => data)).toEqual([
        { broker: 'disconnected' },
        ...lost,
        { broker: 'connected' },
      ])
    }
  })

  test.each([
    ['is no gap of a durable session that the broker kept', false],
    ['is a gap of a durable session if it began a new one', true],
  ])('%s', async (_what, beginsSession) => {
    const { bridge, cut } = await start('session', beginsSession)
    const reader = await openSession(bridge, { ack: 'explicit' })
    // Only once: a second loss within five seconds would be taken for another client that takes the session over.
    cut(3)
    const lost = beginsSession ? [{ reason: 'broker-session-lost' }] : []
    expect((await reader.take(2 + lost.length)).map(({ data }) => data)).toEqual([
      { broker: 'disconnected' },
      ...lost,
      { broker: 'connected' },
    ])
  })
})
