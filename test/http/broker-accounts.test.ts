import { describe, expect, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../support/bridge.ts'
import { basic, hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { startMosquitto } from '../support/broker.ts'
import { get, publish, publishRaw, send } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

const ann = basic('ann', 'secret of ann')
const bob = basic('bob', 'secret of bob')
const accounts = {
  ann: { password: 'secret of ann' },
  bob: { password: 'secret of bob', acl: ['topic readwrite bob/#', 'topic read all/#'] },
}

async function start(settings: Settings = {}) {
  const broker = await startMosquittoWithAccounts(accounts)
  return { broker, bridge: await startBridge({ AUTH: 'broker', MQTT_URL: broker.url, ADMIN_PORT: 0, ...settings }) }
}

const links = (bridge: Bridge) => metric(bridge, 'causeway_links')

describe.runIf(hasAccounts).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test('callers whom the broker knows are let in, and others told what it said', async () => {
    const { bridge } = await start({ MQTT_PROTOCOL: protocol })
    expect((await publish(bridge, { topic: 'a' }, ann)).status).toBe(200)
    for (const headers of [basic('ann', 'wrong'), basic('nobody', 'x')]) {
      const answer = await publish(bridge, { topic: 'a' }, headers)
      expect(answer.body).toMatchObject({
        status: 401,
        code: 'unauthorized',
        mqtt: { reasonCode: protocol === '5' ? 0x87 : 5 },
      })
      expect(answer.headers.get('www-authenticate')).toBe(
        'Bearer realm="causeway", Basic realm="causeway", charset="UTF-8"',
      )
    }
  })

  test('a token is their password, with the user name that is configured', async () => {
    const { bridge } = await start({ MQTT_PROTOCOL: protocol, AUTH_BEARER_USERNAME: 'device' })
    const broker = await startMosquittoWithAccounts({ device: { password: 'token-1' } })
    const other = await startBridge({
      AUTH: 'broker',
      MQTT_URL: broker.url,
      MQTT_PROTOCOL: protocol,
      AUTH_BEARER_USERNAME: 'device',
    })
    expect((await publish(other, { topic: 'a' }, { authorization: 'Bearer token-1' })).status).toBe(200)
    expect((await publish(other, { topic: 'a' }, { authorization: 'Bearer token-2' })).status).toBe(401)
    expect((await publish(bridge, { topic: 'a' }, { authorization: 'Bearer token-1' })).status).toBe(401)
  })
})

describe.runIf(hasAccounts)('the access rules of the broker', () => {
  test('apply to each caller’s publishes, streams and retained messages', async () => {
    const { bridge } = await start()
    const stream = await openStream(`${bridge.url}/subscribe?topic=%23`, bob)
    await publish(bridge, { topic: 'all/1', payload: 'for all', retain: true }, ann)
    await publish(bridge, { topic: 'ann/1', payload: 'for ann', retain: true }, ann)
    expect((await publish(bridge, { topic: 'ann/1' }, bob)).body).toMatchObject({ status: 403, code: 'not-authorized' })
    expect((await publish(bridge, { topic: 'bob/1', payload: 'for bob' }, bob)).status).toBe(200)

    expect((await stream.take(2)).map(({ data }) => data.payload)).toEqual(['for all', 'for bob'])
    expect((await get(bridge, '/retained?topic=%23', bob)).body).toMatchObject([{ payload: 'for all' }])
    expect((await get(bridge, '/retained?topic=ann/1', bob)).status).toBe(404)
    expect((await get(bridge, '/retained?topic=ann/1', ann)).body).toBe('for ann')
  })
})

describe.runIf(hasAccounts)('a caller', () => {
  test('has its idempotency keys, streams and sessions for itself', async () => {
    const { bridge } = await start()
    const order = (headers: Record<string, string>) =>
      publishRaw(bridge, 'topic=bob/orders', 'x', { ...headers, 'idempotency-key': '"1"' })
    expect([
      (await order(ann)).status,
      (await order(bob)).headers.get('idempotency-replayed'),
      (await order(ann)).headers.get('idempotency-replayed'),
    ]).toEqual([200, null, 'true'])

    const session = await openStream(`${bridge.url}/subscribe?topic=bob/%23&session=s`, ann)
    const { id } = (await session.next()).data
    expect((await get(bridge, '/sessions', ann)).body).toMatchObject([{ id }])
    expect((await get(bridge, '/sessions', bob)).body).toEqual([])
    expect((await send(bridge, 'DELETE', `/sessions/${id}`, bob)).status).toBe(404)
  })

  test('of a broker that looks at no password shares nothing with another of the same name', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ AUTH: 'broker', MQTT_URL: broker.url })
    const order = (password: string) =>
      publishRaw(bridge, 'topic=orders', 'x', { ...basic('ann', password), 'idempotency-key': '"1"' })
    expect([
      (await order('one')).status,
      (await order('two')).headers.get('idempotency-replayed'),
      (await order('one')).headers.get('idempotency-replayed'),
    ]).toEqual([200, null, 'true'])
  })

  test('without credentials, or with half of them, is told which are taken', async () => {
    const { bridge } = await start()
    for (const headers of [{}, basic('', 'x'), basic('ann', ''), basic('', ''), basic('a\0b', 'x')]) {
      const { status, headers: answered } = await publish(bridge, { topic: 'a' }, headers as Record<string, string>)
      expect([status, answered.get('www-authenticate')]).toEqual([
        401,
        expect.stringContaining('Bearer realm="causeway"'),
      ])
    }
    expect(await links(bridge)).toBe(0)
  })

  test('that does nothing for a while loses its connections, and gets new ones when it comes back', async () => {
    const { bridge } = await start({ LINK_IDLE_MS: 50 })
    expect((await publish(bridge, { topic: 'a' }, ann)).status).toBe(200)
    await expect.poll(() => links(bridge)).toBe(0)
    expect((await publish(bridge, { topic: 'a' }, ann)).status).toBe(200)
  })

  test('with an open stream keeps them', async () => {
    const { bridge } = await start({ LINK_IDLE_MS: 0 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`, ann)
    expect((await publish(bridge, { topic: 'a', payload: 'x' }, ann)).status).toBe(200)
    expect((await stream.next()).data).toMatchObject({ payload: 'x' })
    expect(await links(bridge)).toBe(1)
    stream.close()
    await expect.poll(() => links(bridge)).toBe(0)
    await expect.poll(() => metric(bridge, 'causeway_mqtt_connections{role="subscribe",state="connected"}')).toBe(0)
  })

  test('connects no more than it needs', async () => {
    const { bridge } = await start()
    await publish(bridge, { topic: 'a' }, ann)
    expect([
      await metric(bridge, 'causeway_mqtt_connections{role="publish",state="connected"}'),
      await metric(bridge, 'causeway_mqtt_connections{role="retained",state="connected"}'),
    ]).toEqual([1, 0])
    await get(bridge, '/retained?topic=a', ann)
    expect(await metric(bridge, 'causeway_mqtt_connections{role="retained",state="connected"}')).toBe(1)
  })

  test('whose password the broker changes loses its streams, with an event that says why', async () => {
    const { broker, bridge } = await start()
    const [annStream, bobStream] = [
      await openStream(`${bridge.url}/subscribe?topic=bob/1`, ann),
      await openStream(`${bridge.url}/subscribe?topic=bob/1`, bob),
    ]
    broker.change({ ...accounts, ann: { password: 'another one' } })
    const events: unknown[] = []
    while (events.length === 0 || !JSON.stringify(events.at(-1)).includes('credentials')) {
      events.push((await annStream.next()).data)
    }
    expect(events.at(-1)).toEqual({ credentials: 'revoked' })
    await annStream.ended
    await expect.poll(async () => (await publish(bridge, { topic: 'a' }, ann)).status).toBe(401)
    expect((await publish(bridge, { topic: 'bob/1', payload: 'still' }, basic('ann', 'another one'))).status).toBe(200)
    expect((await bobStream.next()).data).toMatchObject({ payload: 'still' })
  })
})

test.runIf(hasAccounts)('a caller whose password changed while the broker was away loses its streams too', async () => {
  const { broker, bridge } = await start()
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, ann)
  await broker.stop()
  expect((await stream.next()).data).toEqual({ broker: 'disconnected' })
  for (const role of ['publish', 'subscribe']) {
    await expect.poll(() => metric(bridge, `causeway_mqtt_connections{role="${role}",state="disconnected"}`)).toBe(1)
  }
  broker.write({ ...accounts, ann: { password: 'another one' } })
  await broker.start()
  expect((await stream.next()).data).toEqual({ credentials: 'revoked' })
  await stream.ended
})

describe.runIf(hasAccounts)('readiness', () => {
  test('needs the broker, not an account of the bridge’s own', async () => {
    const { broker, bridge } = await start()
    const admin = { ...bridge, url: bridge.adminUrl }
    expect((await get(admin, '/readyz')).status).toBe(200)
    await broker.kill()
    await expect.poll(async () => (await get(admin, '/readyz')).status).toBe(503)
    expect((await publish(bridge, { topic: 'a' }, ann)).body).toMatchObject({ status: 503, code: 'broker-unavailable' })
    await broker.start()
    await expect.poll(async () => (await get(admin, '/readyz')).status, { timeout: 20_000 }).toBe(200)
    await expect.poll(async () => (await publish(bridge, { topic: 'a' }, ann)).status).toBe(200)
  })
})
