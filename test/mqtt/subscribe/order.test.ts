import { expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get, send } from '../../support/http.ts'
import { isPublisher, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const PUBLISHES = 20

const orderAt = async (bridge: Bridge) => (await get(bridge, '/readyz?verbose')).body.broker.learnt.order

/** The most publishes that were on their way at the same time, once the bridge knows how the broker does it. */
async function mostInFlight(order: 'kept' | 'mixed') {
  let [inFlight, most] = [0, 0]
  const broker = await startScriptedBroker(
    (packet, peer) => {
      if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
      inFlight += 1
      most = Math.max(most, inFlight)
      // Behind all that has arrived in the same turn.
      setImmediate(() => {
        inFlight -= 1
        peer.send({ cmd: 'puback', messageId: packet.messageId! })
      })
      return true
    },
    { order },
  )
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1 })
  // Before anybody subscribes.
  await expect.poll(() => orderAt(bridge)).toBe(order)
  const messages = Array.from({ length: PUBLISHES }, () => ({ topic: 'a', payload: 'x', qos: 1 }))
  const headers = { 'content-type': 'application/json' }
  const { body } = await send(bridge, 'POST', '/publish/batch', headers, JSON.stringify(messages))
  expect(body).toHaveLength(PUBLISHES)
  return most
}

test('where the broker mixes the order, the next message is published once the one before is acknowledged', async () => {
  expect(await mostInFlight('mixed')).toBe(1)
})

test('where it keeps the order, many are on their way at the same time', async () => {
  expect(await mostInFlight('kept')).toBeGreaterThan(1)
})

// Artemis mixes so few that the first trial misses it in every second run.
test('a broker that seemed to keep the order is tried again, more thoroughly', async () => {
  const broker = await startScriptedBroker(() => {}, { order: 'mixed-later' })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  await expect.poll(() => orderAt(bridge)).toBe('kept')
  await expect.poll(() => orderAt(bridge), { timeout: 10_000 }).toBe('mixed')
})

// The trial would find that this one mixes the order.
test('a broker that says that nobody subscribes is taken to keep the order, without a trial', async () => {
  const broker = await startScriptedBroker(() => {}, { order: 'mixed', saysNobodySubscribes: true })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  await expect.poll(() => orderAt(bridge)).toBe('kept')
})

test('what one broker says is not taken for what the next one does', async () => {
  const first = await startScriptedBroker(() => {}, { saysNobodySubscribes: true })
  const second = await startScriptedBroker(() => {}, { order: 'mixed' })
  const bridge = await startBridge({ MQTT_URL: `${first.url},${second.url}` })
  await expect.poll(() => orderAt(bridge)).toBe('kept')
  first.stop()
  const isThere = () => second.peers.some(({ connect }) => connect?.clientId.endsWith('-retained'))
  await expect.poll(isThere, { timeout: 20_000 }).toBe(true)
  await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  await expect.poll(() => orderAt(bridge), { timeout: 20_000 }).toBe('mixed')
})
