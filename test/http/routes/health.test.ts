import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { freePort } from '../../support/free-port.ts'
import { get } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'
import { openSession } from '../../support/session.ts'
import { openStream } from '../../support/stream.ts'
import { makeToken, tokenFile } from '../../support/token-file.ts'

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

test('/readyz says why it is not ready, and what was tried', async () => {
  const port = await freePort()
  const bridge = await startBridge({ MQTT_URL: `mqtt://u:secret@127.0.0.1:${port}` }, { waitForBroker: false })
  expect((await get(bridge, '/readyz')).body.detail).toBe(
    `The bridge is not connected to its broker mqtt://127.0.0.1:${port} over MQTT 5: There is no connection to the ` +
      'broker: nothing listens there (ECONNREFUSED); nothing was sent',
  )
})

describe('/readyz?verbose', () => {
  test('describes the broker as found, and its connections', async () => {
    const broker = await startScriptedBroker(() => {})
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CLIENT_ID: 'b', PUBLISH_CONNECTIONS: 1 })
    await openSession(bridge)
    const { status, body } = await get(bridge, '/readyz?verbose')
    expect([status, body]).toMatchObject([
      200,
      {
        status: 'ok',
        broker: {
          addresses: [broker.url],
          address: broker.url,
          protocol: '5',
          limits: { receiveMaximum: 20, maximumQoS: 2, sharedSubscriptions: true },
        },
        others: { session: { connected: 1 } },
      },
    ])
    expect(body.connections.map(({ clientId, state }: Record<string, string>) => [clientId, state])).toEqual(
      ['publish-0', 'subscribe-0', 'retained', 'request', 'cluster'].map((name) => [`b-${name}`, 'connected']),
    )
  })

  test('does so without the broker too, with the reason of each connection', async () => {
    const url = `mqtt://127.0.0.1:${await freePort()}`
    const bridge = await startBridge({ MQTT_URL: url }, { waitForBroker: false })
    const { status, headers, body } = await get(bridge, '/readyz?verbose')
    expect([status, headers.get('content-type')]).toEqual([503, 'application/problem+json'])
    expect(body).toMatchObject({ code: 'broker-unavailable', broker: { addresses: [url] } })
    expect(body.connections[0]).toMatchObject({
      role: 'publish',
      state: 'disconnected',
      address: url,
      reason: expect.stringContaining('ECONNREFUSED'),
    })
  })

  test('needs credentials on the public port, which /readyz does not', async () => {
    const token = makeToken('prober', [])
    const bridge = await startBridge(tokenFile([token]).settings)
    for (const path of ['/livez', '/readyz']) expect([path, (await get(bridge, path)).status]).toEqual([path, 200])
    expect((await get(bridge, '/readyz?verbose')).status).toBe(401)
    expect((await get(bridge, '/readyz?verbose', token.headers)).body.broker).toMatchObject({ protocol: '5' })
    const apart = await startBridge({ ...tokenFile([token]).settings, ADMIN_PORT: 0 })
    expect((await get({ ...apart, url: apart.adminUrl }, '/readyz?verbose')).status).toBe(200)
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
