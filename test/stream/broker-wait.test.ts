import { request } from 'node:http'
import { expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { get, publish } from '../support/http.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'
import { freePort } from '../support/free-port.ts'

const awayBridge = async (settings = {}): Promise<Bridge> =>
  startBridge({ MQTT_URL: `mqtt://127.0.0.1:${await freePort()}`, ...settings }, { waitForBroker: false })

test.runIf(hasMosquitto).each([
  ['', {}],
  ['&session=s', {}],
  ['', { 'last-event-id': '0123456789ab-1' }],
])(
  'a subscription%s waits while the broker is away, with %j too, and begins once it is back',
  async (more, headers) => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, SUBSCRIBE_WAIT_MS: 120_000 })
    await broker.kill()
    await expect.poll(async () => (await get(bridge, '/readyz')).status, { timeout: 20_000 }).toBe(503)
    const opening = openStream(`${bridge.url}/subscribe?topic=a${more}`, headers)
    await broker.start()
    const stream = await opening
    expect(stream.status).toBe(200)
    await expect
      .poll(async () => (await publish(bridge, { topic: 'a', payload: 'x' })).status, { timeout: 20_000 })
      .toBe(200)
    for (let { event, data } = await stream.next(); event !== 'message' || data.payload !== 'x';) {
      ;({ event, data } = await stream.next())
    }
  },
)

test('a subscription that has waited in vain gets a 503 with Retry-After', async () => {
  const bridge = await awayBridge({ SUBSCRIBE_WAIT_MS: 50 })
  const { status, headers, body } = await get(bridge, '/subscribe?topic=a')
  expect([status, body.code, headers.get('retry-after')]).toEqual([503, 'broker-unavailable', expect.any(String)])
})

test('what waits counts as a stream, until its client leaves', async () => {
  const bridge = await awayBridge({ SUBSCRIBE_WAIT_MS: 600_000, STREAM_MAX: 1 })
  const waiting = request(`${bridge.url}/subscribe?topic=a`).on('error', () => {})
  waiting.end()
  await expect
    .poll(async () => (await get(bridge, '/subscribe?topic=a')).body.code, { timeout: 10_000 })
    .toBe('too-many-streams')
  waiting.destroy()
  const attempt = () =>
    fetch(`${bridge.url}/subscribe?topic=a`, { signal: AbortSignal.timeout(300) }).then(
      async (response) => ((await response.json()) as { code: string }).code,
      () => 'waits',
    )
  await expect.poll(attempt, { timeout: 10_000 }).toBe('waits')
})

test('a shutdown does not wait for what waits', async () => {
  const bridge = await awayBridge({ SUBSCRIBE_WAIT_MS: 600_000 })
  const answer = get(bridge, '/subscribe?topic=a')
  await expect.poll(() => metric(bridge, 'causeway_mqtt_connections{role="subscribe",state="disconnected"}')).toBe(1)
  await bridge.close()
  expect((await answer).status).toBe(503)
})

test('a filter over which the broker closes the connection is tried twice, not for as long as one may wait', async () => {
  let subscribes = 0
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || packet.subscriptions[0]?.topic !== 'evil') return false
    subscribes += 1
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, SUBSCRIBE_WAIT_MS: 600_000 })
  expect((await get(bridge, '/subscribe?topic=evil&retained=false')).status).toBe(503)
  expect(subscribes).toBeLessThanOrEqual(4)
})
