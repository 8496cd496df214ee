import { expect, test } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { basic } from '../support/accounts.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

test('a caller who leaves while the broker is asked who it is leaves nothing behind', async () => {
  const waiting: Peer[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || packet.username !== 'slow') return false
    waiting.push(peer)
    return waiting.length === 1
  })
  const bridge = await startBridge({
    AUTH: 'broker',
    MQTT_URL: broker.url,
    MQTT_PROTOCOL: '5',
    STREAM_MAX: 1,
    LINK_IDLE_MS: 0,
    ADMIN_PORT: 0,
  })
  const left = new AbortController()
  const leaving = fetch(`${bridge.url}/subscribe?topic=a`, {
    headers: basic('slow', 'good'),
    signal: left.signal,
  }).catch(() => 'left')
  await expect.poll(() => waiting.length).toBe(1)
  left.abort()
  expect(await leaving).toBe('left')
  waiting[0]!.accept()
  await expect.poll(() => metric(bridge, 'causeway_authentications_total{result="accepted"}')).toBe(1)
  await expect.poll(() => metric(bridge, 'causeway_links')).toBe(0)
  expect((await openStream(`${bridge.url}/subscribe?topic=a&retained=false`, basic('ann', 'good'))).status).toBe(200)
})
