import type { IPublishPacket } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { get, publish } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'
import { openSession, trySession } from '../../support/session.ts'
import { openStream } from '../../support/stream.ts'

const REFUSED = { status: 501, body: { code: 'topic-not-supported', retryable: false } }

/** A broker that hands on every message to all, on a topic that it changes as RabbitMQ does: `.` is `/`, and `*` is `+`. */
async function start() {
  const tried: string[] = []
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'publish') return false
      if (packet.topic.includes('/topics/')) tried.push(packet.topic)
      peer.send({ cmd: 'puback', messageId: packet.messageId! })
      const topic = packet.topic.replaceAll('.', '/').replaceAll('*', '+')
      for (const other of broker.peers) other.sendNow({ ...packet, topic, qos: 0 } as IPublishPacket)
      return true
    },
    { handlesMarkers: false },
  )
  return { bridge: await startBridge({ MQTT_URL: broker.url }), tried }
}

describe('a broker that changes characters of topics', () => {
  test.each(['a.b', 'a*b/c'])('is not subscribed to %s, which would stay silent, nor read from', async (topic) => {
    const { bridge, tried } = await start()
    const path = `topic=${encodeURIComponent(topic)}&retained=false`
    for (const address of [`/subscribe?${path}`, `/retained?topic=${encodeURIComponent(topic)}`]) {
      expect(await get(bridge, address)).toMatchObject(REFUSED)
    }
    expect((await trySession(bridge, { topics: [topic] })).status).toBe(501)
    // It is tried once, with two messages.
    expect(tried).toHaveLength(2)
    const { body } = await get(bridge, '/readyz?verbose')
    expect(body.broker.learnt).toMatchObject({ changedCharacters: '.*' })
  })
})

test('topics with such characters are delivered by a broker that does not change them', async () => {
  const bridge = await startBridge()
  const stream = await openStream(`${bridge.url}/subscribe?topic=a.b/*`)
  const session = await openSession(bridge, { topics: ['a.b/*'] })
  await publish(bridge, { topic: 'a.b/*', payload: 'x' })
  expect((await stream.next()).data).toMatchObject({ topic: 'a.b/*', payload: 'x' })
  expect((await session.next()).data).toMatchObject({ topic: 'a.b/*', payload: 'x' })
  expect((await get(bridge, '/readyz?verbose')).body.broker.learnt).toMatchObject({ changedCharacters: '' })
})
