import { describe, expect, test } from 'vitest'
import { type Bridge, BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publishRaw } from '../support/http.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'

const send = (bridge: Bridge, key: string, payload = 'x', query = 'topic=i/a') => publishRaw(bridge, query, payload, { 'idempotency-key': key })
const counted = (bridge: Bridge, result: string) => metric(bridge, `causeway_idempotency_keys_total{result="${result}"}`)

describe.each(BROKERS)('on $name', ({ start }) => {
  test('the same key and request get the first answer again, and make one message', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), 'i/#')
    const first = await send(bridge, '"k1"')
    const again = await send(bridge, '"k1"')
    const bare = await send(bridge, 'k1')
    expect([first, again, bare].map(({ status, headers }) => [status, headers.get('idempotency-replayed')])).toEqual([[200, null], [200, 'true'], [200, 'true']])
    expect(again.body).toEqual(first.body)
    expect((await send(bridge, '"k2"', 'y')).status).toBe(200)
    expect([(await messages.next()).payload.toString(), (await messages.next()).payload.toString()]).toEqual(['x', 'y'])
    expect(messages.packets).toHaveLength(2)
    expect([await counted(bridge, 'new'), await counted(bridge, 'replayed')]).toEqual([2, 2])
  })

  test('the same key with another request is refused', async () => {
    const bridge = await startBridge(await start())
    await send(bridge, '"k"')
    for (const other of [() => send(bridge, '"k"', 'y'), () => send(bridge, '"k"', 'x', 'topic=i/b'), () => send(bridge, '"k"', 'x', 'topic=i/a&retain=true')]) {
      expect((await other()).body).toMatchObject({ status: 422, code: 'idempotency-mismatch' })
    }
    expect(await counted(bridge, 'mismatch')).toBe(3)
  })
})

test('a retry may carry another trace context', async () => {
  const bridge = await startBridge()
  const traced = (parent: string) => publishRaw(bridge, 'topic=i/a', 'x', { 'idempotency-key': '"k"', traceparent: parent })
  await traced('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')
  expect((await traced('00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01')).headers.get('idempotency-replayed')).toBe('true')
})

test.each(['""', '"a', 'a b', 'ä', `"${'k'.repeat(256)}"`, '"a\\b"'])('%s is no key', async (key) => {
  const bridge = await startBridge()
  const { status, body } = await send(bridge, Buffer.from(key).toString('latin1'))
  expect([status, body.errors?.[0]]).toEqual([400, expect.objectContaining({ in: 'headers', pointer: '#/idempotency-key' })])
})

test('keys are bounded in number and time', async () => {
  const bridge = await startBridge({ IDEMPOTENCY_KEYS_MAX: 2, IDEMPOTENCY_TTL_S: 1 })
  for (const key of ['a', 'b', 'c']) await send(bridge, key)
  expect((await send(bridge, 'c')).headers.get('idempotency-replayed')).toBe('true')
  expect((await send(bridge, 'a')).headers.get('idempotency-replayed')).toBeNull()
  await expect.poll(async () => (await send(bridge, 'a', 'other')).status, { timeout: 5000 }).toBe(200)
})

describe.skipIf(!hasMosquitto)('on Mosquitto', () => {
  test('a key whose request still runs is busy, and an unknown outcome is kept and said again', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 700 })
    broker.freeze()
    const first = send(bridge, '"k"')
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
    expect((await send(bridge, '"k"')).body).toMatchObject({ status: 409, code: 'idempotency-running', retryable: true })
    expect((await first).body).toMatchObject({ status: 504, outcome: 'unknown' })
    broker.thaw()
    expect((await send(bridge, '"k"')).body).toMatchObject({ status: 504, outcome: 'unknown' })
  })

  test('what failed before it was sent frees its key; what the broker refused does not', async () => {
    const broker = await startMosquitto({ acl: ['topic read #', 'topic write free/#'] })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    for (const replayed of [0, 1]) {
      expect((await send(bridge, '"refused"')).body).toMatchObject({ status: 403, mqtt: { reasonCode: 135 } })
      expect(await counted(bridge, 'replayed')).toBe(replayed)
    }
    await broker.kill()
    await expect.poll(async () => (await send(bridge, '"k"', 'x', 'topic=free/a')).status).toBe(503)
    await broker.start()
    await expect.poll(async () => (await send(bridge, '"k"', 'x', 'topic=free/a')).status, { timeout: 10_000 }).toBe(200)
  })
})
