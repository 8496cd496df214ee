import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const live = { cmd: 'publish', topic: 'a', payload: 'x', qos: 1, retain: false, dup: false, messageId: 1 } as const
const isSubscriber = ({ connect }: Peer): boolean => connect?.clientId.includes('-subscribe-') === true

/** The subscription identifier that the bridge gave a filter. */
function identifierOf(peers: readonly Peer[], filter: string): number {
  for (const packet of peers.flatMap(({ received }) => received)) {
    if (packet.cmd === 'subscribe' && packet.subscriptions[0]!.topic === filter) {
      return packet.properties!.subscriptionIdentifier!
    }
  }
  throw new Error(`${filter} is not subscribed to`)
}

describe('a message with a subscription identifier', () => {
  test.each(['$queue/a', '$exclusive/a', 'rewritten/from'])('is for %s whatever its topic is', async (filter) => {
    const broker = await startScriptedBroker(() => false)
    const bridge = await startBridge({ MQTT_URL: broker.url, ALLOW_DOLLAR_TOPICS: true })
    const stream = await openStream(`${bridge.url}/subscribe?topic=${encodeURIComponent(filter)}&retained=false`)
    const subscriptionIdentifier = identifierOf(broker.peers, filter)
    broker.peers.findLast(isSubscriber)!.send({ ...live, properties: { subscriptionIdentifier } })
    expect((await stream.next()).data).toMatchObject({ topic: 'a', payload: 'x' })
  })
})

test('over MQTT 3.1.1 a message that matches no filter is counted, and one line of the log says so', async () => {
  const broker = await startScriptedBroker(() => false)
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1', ALLOW_DOLLAR_TOPICS: true })
  const stream = await openStream(`${bridge.url}/subscribe?topic=$queue/a&retained=false`)
  for (const messageId of [1, 2]) broker.peers.findLast(isSubscriber)!.send({ ...live, messageId })
  await expect.poll(() => metric(bridge, 'causeway_unmatched_messages_total')).toBe(2)
  expect(bridge.logs.filter(({ msg }) => String(msg).includes('matches no filter'))).toHaveLength(1)
  stream.close()
})

/** How the broker sends the copies of a message that matches two subscriptions. */
const COPIES = {
  'without identifiers': () => [{}, {}],
  'with one identifier alone': ([first]: number[]) => [{ subscriptionIdentifier: first }],
  'each with all identifiers': (all: number[]) => [{ subscriptionIdentifier: all }, { subscriptionIdentifier: all }],
}

test.each(Object.entries(COPIES))(
  'where copies come %s, filters that overlap have connections of their own',
  async (_how, propertiesOf) => {
    const filters = new Map<Peer, { topic: string; identifier: number }[]>()
    const broker = await startScriptedBroker(
      (packet, peer) => {
        if (packet.cmd === 'subscribe') {
          const { topic } = packet.subscriptions[0]!
          const identifier = packet.properties?.subscriptionIdentifier ?? 0
          filters.set(peer, [...(filters.get(peer) ?? []), { topic, identifier }])
        }
        if (packet.cmd !== 'publish') return false
        for (const [to, subscriptions] of filters) {
          const matching = subscriptions.filter(
            ({ topic }) => topic === packet.topic || topic === packet.topic.replace(/[^/]+$/, '+'),
          )
          if (matching.length === 1) {
            const { identifier } = matching[0]!
            to.send({ ...live, ...packet, properties: identifier > 0 ? { subscriptionIdentifier: identifier } : {} })
          }
          if (matching.length < 2) continue
          for (const properties of propertiesOf(matching.map(({ identifier }) => identifier))) {
            to.send({ ...live, ...packet, properties: properties as object })
          }
        }
        return false
      },
      { handlesMarkers: false },
    )
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const first = await openStream(`${bridge.url}/subscribe?topic=b/1&retained=false`)
    const both = await openStream(`${bridge.url}/subscribe?topic=b/1&topic=b/%2B&retained=false`)
    expect(broker.peers.filter((peer) => filters.has(peer) && isSubscriber(peer))).toHaveLength(2)
    await fetch(`${bridge.url}/publish?topic=b/1`, { method: 'POST', body: 'one' })
    await fetch(`${bridge.url}/publish?topic=b/1`, { method: 'POST', body: 'two' })
    for (const stream of [first, both]) {
      expect((await stream.take(2)).map(({ data }) => data.payload)).toEqual(['one', 'two'])
    }
  },
)

test('filters that overlap share a connection where each copy says which it is', async () => {
  const broker = await startScriptedBroker(() => false)
  const bridge = await startBridge({ MQTT_URL: broker.url })
  const stream = await openStream(`${bridge.url}/subscribe?topic=b/1&topic=b/%2B&retained=false`)
  expect(stream.status).toBe(200)
  expect(new Set(broker.peers.filter(isSubscriber).map(({ connect }) => connect!.clientId)).size).toBe(1)
})
