import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { freePort } from '../../support/free-port.ts'
import { get } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'

const ready = async (bridge: Bridge) => (await get(bridge, '/readyz')).status

test('a bridge with its broker is alive and ready', async () => {
  const bridge = await startBridge()
  for (const path of ['/livez', '/readyz']) {
    expect([path, await get(bridge, path)]).toMatchObject([path, { status: 200, body: { status: 'ok' } }])
  }
})

test('a bridge without its broker starts, alive and not ready', async () => {
  const bridge = await startBridge({ MQTT_URL: `mqtt://127.0.0.1:${await freePort()}` }, { waitForBroker: false })
  const { status, headers, body } = await get(bridge, '/readyz')
  expect([status, headers.get('content-type'), body.code, body.retryable]).toEqual([
    503,
    expect.stringMatching(/^application\/problem\+json/),
    'broker-unavailable',
    true,
  ])
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await get(bridge, '/livez')).status).toBe(200)
})

describe.runIf(hasMosquitto)('a broker', () => {
  test('that dies makes the bridge unready within a second, and that comes back ready again', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    await broker.kill()
    await expect.poll(() => ready(bridge), { timeout: 1000, interval: 20 }).toBe(503)
    expect((await get(bridge, '/livez')).status).toBe(200)
    await broker.start()
    await expect.poll(() => ready(bridge), { timeout: 10_000 }).toBe(200)
  })

  test.each(['5', '3.1.1'])('that freezes makes it unready after the keep-alive, over MQTT %s', async (protocol) => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, MQTT_KEEPALIVE_S: 1 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    broker.freeze()
    await expect.poll(() => ready(bridge), { timeout: 10_000 }).toBe(503)
    expect((await get(bridge, '/livez')).status).toBe(200)
    expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
    broker.thaw()
    await expect.poll(() => ready(bridge), { timeout: 20_000 }).toBe(200)
    await expect.poll(() => stream.events.map(({ data }) => data.broker)).toContain('connected')
  })

  test('that comes only after the bridge makes it ready', async () => {
    const broker = await startMosquitto()
    await broker.kill()
    const bridge = await startBridge({ MQTT_URL: broker.url }, { waitForBroker: false })
    expect(await ready(bridge)).toBe(503)
    await broker.start()
    await expect.poll(() => ready(bridge), { timeout: 10_000 }).toBe(200)
    expect((await openStream(`${bridge.url}/subscribe?topic=a`)).status).toBe(200)
  })
})

test('ADMIN_PORT moves health and metrics to a listener of their own, and nothing else', async () => {
  const bridge = await startBridge({ ADMIN_PORT: 0 })
  expect(bridge.adminUrl).not.toBe(bridge.url)
  const admin = { ...bridge, url: bridge.adminUrl }
  for (const path of ['/livez', '/readyz', '/metrics']) {
    expect([path, (await get(admin, path)).status, (await get(bridge, path)).status]).toEqual([path, 200, 404])
  }
  for (const path of ['/subscribe?topic=a%23', '/openapi.json']) {
    expect([path, (await get(admin, path)).status]).toEqual([path, 404])
  }
  expect((await get(bridge, '/subscribe?topic=a%23')).status).toBe(400)
  await openStream(`${bridge.url}/subscribe?topic=a`)
  expect(await metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(1)
})
