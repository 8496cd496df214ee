import { describe, expect, test } from 'vitest'
import { BROKERS, type Bridge, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { type Answer, publishRaw } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

function send(bridge: Bridge, key: string, body = 'x', query = 'topic=i', headers = {}): Promise<Answer> {
  return publishRaw(bridge, query, body, { 'idempotency-key': key, ...headers })
}

const results = async (bridge: Bridge) =>
  Object.fromEntries(
    await Promise.all(
      ['new', 'replayed', 'running', 'mismatch'].map(async (result) => [
        result,
        await metric(bridge, `causeway_idempotency_keys_total{result="${result}"}`),
      ]),
    ),
  )

describe.each(BROKERS)('on $name', ({ start }) => {
  test('the same key and request get the first answer again, and make one message', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), 'i')
    const first = await send(bridge, '"k"')
    const second = await send(bridge, '"k"')
    expect(first).toMatchObject({ status: 200, body: { topic: 'i', qos: 1 } })
    expect(first.headers.get('idempotency-replayed')).toBe(null)
    expect(second.headers.get('idempotency-replayed')).toBe('true')
    expect([second.status, second.body]).toEqual([first.status, first.body])
    expect((await send(bridge, '"other"', 'end')).headers.get('idempotency-replayed')).toBe(null)
    expect([(await messages.next()).payload.toString(), (await messages.next()).payload.toString()]).toEqual([
      'x',
      'end',
    ])
    expect(await results(bridge)).toEqual({ new: 2, replayed: 1, running: 0, mismatch: 0 })
  })

  test.each([
    ['payload', 'y', 'topic=i'],
    ['topic', 'x', 'topic=j'],
    ['QoS', 'x', 'topic=i&qos=2'],
    ['retain flag', 'x', 'topic=i&retain=true'],
  ])('the same key with another %s is refused and publishes nothing', async (_what, body, query) => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), '+')
    await send(bridge, 'k')
    expect(await send(bridge, 'k', body, query)).toMatchObject({ status: 422, body: { code: 'idempotency-mismatch' } })
    await send(bridge, 'end', 'end')
    expect([(await messages.next()).payload.toString(), (await messages.next()).payload.toString()]).toEqual([
      'x',
      'end',
    ])
    expect(await results(bridge)).toEqual({ new: 2, replayed: 0, running: 0, mismatch: 1 })
  })
})

test('a key is the same with and without its quotes', async () => {
  const bridge = await startBridge()
  await send(bridge, '"a-1"')
  expect((await send(bridge, 'a-1')).headers.get('idempotency-replayed')).toBe('true')
  await send(bridge, String.raw`"b\"\\2"`)
  expect((await send(bridge, String.raw`"b\"\\2"`)).headers.get('idempotency-replayed')).toBe('true')
})

test.each(['""', '"open', 'two words', '"a", "b"', '"a";p=1', 'a"b', `"${'k'.repeat(256)}"`, '"ü"'])(
  'the key %s is refused, with a pointer to it',
  async (key) => {
    const bridge = await startBridge()
    expect(await send(bridge, key)).toMatchObject({
      status: 400,
      body: { errors: [{ in: 'headers', pointer: '#/idempotency-key' }] },
    })
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(0)
  },
)

test('an answer is kept for as long as configured', async () => {
  const bridge = await startBridge({ IDEMPOTENCY_TTL_S: 1 })
  await send(bridge, 'k')
  expect((await send(bridge, 'k', 'y')).status).toBe(422)
  await expect.poll(async () => (await send(bridge, 'k', 'y')).status, { timeout: 10_000 }).toBe(200)
})

test('the oldest answers make room for new keys', async () => {
  const bridge = await startBridge({ IDEMPOTENCY_KEYS_MAX: 2 })
  for (const key of ['a', 'b', 'c']) await send(bridge, key)
  expect((await send(bridge, 'b')).headers.get('idempotency-replayed')).toBe('true')
  expect((await send(bridge, 'c')).headers.get('idempotency-replayed')).toBe('true')
  expect((await send(bridge, 'a')).headers.get('idempotency-replayed')).toBe(null)
})

test('where all keys belong to running requests, another gets 503', async () => {
  const broker = await startScriptedBroker(({ cmd }) => cmd === 'publish')
  const bridge = await startBridge({ MQTT_URL: broker.url, IDEMPOTENCY_KEYS_MAX: 1, PUBLISH_TIMEOUT_MS: 1000 })
  const running = send(bridge, 'a')
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
  const refused = await send(bridge, 'b')
  expect(refused).toMatchObject({ status: 503, body: { code: 'overloaded', outcome: 'not-sent' } })
  expect(refused.headers.get('retry-after')).toBe('1')
  expect((await running).status).toBe(504)
})

describe.runIf(hasMosquitto)('over MQTT 5', () => {
  test('a retry may come with a trace of its own', async () => {
    const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url })
    const trace = (span: string) => ({ traceparent: `00-0af7651916cd43dd8448eb211c80319c-${span}-01` })
    expect((await send(bridge, 'k', 'x', 'topic=i', trace('b7ad6b7169203331'))).status).toBe(200)
    const retry = await send(bridge, 'k', 'x', 'topic=i', trace('00f067aa0ba902b7'))
    expect([retry.status, retry.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
  })
})
