import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const isSubscriber = ({ connect }: Peer): boolean => connect?.clientId.includes('-subscribe-') === true

test('behind a loss only those filters are asked for again that were granted in the last five seconds', async () => {
  const asked: string[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'subscribe' && isSubscriber(peer)) asked.push(packet.subscriptions[0]!.topic)
    return false
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  await openStream(`${bridge.url}/subscribe?topic=old&retained=false`)
  await delay(5500)
  const stream = await openStream(`${bridge.url}/subscribe?topic=new&retained=false`)
  const readersFilters = () => asked.filter((filter) => filter === 'old' || filter === 'new')
  expect(readersFilters()).toEqual(['old', 'new'])
  broker.peers.findLast(isSubscriber)!.close()
  await expect.poll(() => stream.events.at(-1)?.data.broker, { timeout: 10_000 }).toBe('connected')
  await expect.poll(readersFilters).toEqual(['old', 'new', 'new'])
})
