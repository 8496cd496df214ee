import { expect, test } from 'vitest'
import { startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { startProxy } from '../../support/proxy.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

// The link swallows everything and closes nothing. Alone, a stream would notice by its keep-alive only.
test('a publish that is not answered makes the streams find out too', async () => {
  const broker = await startScriptedBroker(() => {})
  const proxy = await startProxy(broker.url)
  const bridge = await startBridge({
    MQTT_URL: proxy.url,
    MQTT_KEEPALIVE_S: 600,
    PUBLISH_TIMEOUT_MS: 500,
    PUBLISH_CONNECTIONS: 1,
    PUBLISH_MAX_IN_FLIGHT: 1,
  })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  proxy.stall('down')
  expect((await publish(bridge, { topic: 'b' })).status).toBe(504)
  expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
  const reasons = () => bridge.logs.map(({ reason }) => reason)
  await expect.poll(reasons).toContain('The connection to the broker was lost: it acknowledged nothing')
  await expect
    .poll(reasons)
    .toContain('The connection to the broker was lost: it sent nothing for 3000 ms after a ping')
  expect(bridge.logs.map(({ msg }) => msg)).toContain(
    `a connection to ${proxy.url} was not answered any more; checking the others`,
  )
  proxy.cut()
  proxy.flow()
  await expect.poll(() => stream.events.at(-1)?.data, { timeout: 20_000 }).toEqual({ broker: 'connected' })
})

test('connections on which the broker answers stay, although another one is not answered', async () => {
  const broker = await startScriptedBroker(
    (packet, peer) => packet.cmd === 'publish' && peer.connect?.clientId.includes('-publish-'),
  )
  const bridge = await startBridge({
    MQTT_URL: broker.url,
    PUBLISH_TIMEOUT_MS: 300,
    PUBLISH_CONNECTIONS: 1,
    PUBLISH_MAX_IN_FLIGHT: 1,
  })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
  const subscriber = broker.peers.findLast(({ connect }) => connect?.clientId.includes('-subscribe-'))!
  expect((await publish(bridge, { topic: 'b' })).status).toBe(504)
  await expect.poll(() => subscriber.received.some(({ cmd }) => cmd === 'pingreq')).toBe(true)
  await expect.poll(() => bridge.isReachable(), { timeout: 10_000 }).toBe(true)
  subscriber.send({ cmd: 'publish', topic: 'a', payload: 'x', qos: 0, retain: false, dup: false })
  expect((await stream.next()).data).toMatchObject({ payload: 'x' })
})
