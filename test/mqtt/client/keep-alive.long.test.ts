import { setTimeout as delay } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const KEEPALIVE_S = 1
const isSubscriber = (peer: Peer) => peer.connect?.clientId.includes('-subscribe-') === true

test('a message that takes longer than 1.5 keep-alives arrives, on the same connection', async () => {
  let isBusy = false
  // PINGRESP is behind the message. A marker would be in the middle of its bytes.
  const broker = await startScriptedBroker((packet, peer) => packet.cmd === 'pingreq' && isBusy && isSubscriber(peer), {
    handlesMarkers: false,
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_KEEPALIVE_S: KEEPALIVE_S })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  const before = broker.peers.filter(isSubscriber).length
  const subscriber = broker.peers.findLast(isSubscriber)!
  const payload = 'x'.repeat(3000)
  const bytes = generate({ cmd: 'publish', topic: 'a', payload, qos: 0, retain: false, dup: false }, PROTOCOL_5)
  isBusy = true
  const pings = () => subscriber.received.filter(({ cmd }) => cmd === 'pingreq').length
  // As slowly as it takes for four pings to be due.
  let at = 0
  for (; pings() < 4 && at < bytes.length - 1; at += 1) {
    subscriber.sendRaw(bytes.subarray(at, at + 1))
    await delay(10)
  }
  subscriber.sendRaw(bytes.subarray(at))
  isBusy = false
  subscriber.send({ cmd: 'pingresp' })
  expect((await stream.next()).data.payload).toBe(payload)
  expect(broker.peers.filter(isSubscriber)).toHaveLength(before)
})

test('a broker that sends nothing is still given up', async () => {
  let isSilent = false
  const broker = await startScriptedBroker(() => isSilent)
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_KEEPALIVE_S: KEEPALIVE_S })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  isSilent = true
  expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
  const reasons = () => bridge.logs.map(({ reason }) => reason)
  await expect
    .poll(reasons)
    .toContain('The connection to the broker was lost: it sent nothing for 1.5 times the keep-alive of 1 s')
})

const PROTOCOL_5 = { protocolVersion: 5 }
