import { describe, expect, test } from 'vitest'
import { MemoryStore } from '../../../src/http/message/idempotency-memory.ts'
import { createOnce } from '../../../src/http/message/idempotency.ts'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish, send } from '../../support/http.ts'
import { startResponder } from '../../support/responder.ts'

const KEY = { 'idempotency-key': '"k"' }

describe.runIf(hasMosquitto)('POST /request with a key', () => {
  test('is carried out once, and a retry gets the same reply', async () => {
    const broker = await startMosquitto()
    let count = 0
    await startResponder(broker.url, 'q', (payload, reply) => reply(`${payload} ${(count += 1)}`))
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const ask = (body: string) => send(bridge, 'POST', '/request?topic=q', KEY, body)
    const first = await ask('ping')
    const again = await ask('ping')
    expect([first.status, first.body, first.headers.get('idempotency-replayed')]).toEqual([200, 'ping 1', null])
    expect([again.status, again.body, again.headers.get('idempotency-replayed')]).toEqual([200, 'ping 1', 'true'])
    expect(again.headers.get('mqtt-qos')).toBe(first.headers.get('mqtt-qos'))
    expect((await ask('other')).status).toBe(422)
    // The same message to be published only is another request.
    expect((await send(bridge, 'POST', '/publish?topic=q', KEY, 'ping')).status).toBe(422)
    expect(count).toBe(1)
  })

  test('whose caller leaves waits for the reply all the same', async () => {
    const broker = await startMosquitto()
    const replies: (() => void)[] = []
    await startResponder(broker.url, 'q', (_payload, reply) => void replies.push(() => reply('pong')))
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const leaving = new AbortController()
    const first = fetch(`${bridge.url}/request?topic=q&timeout=60000`, {
      method: 'POST',
      headers: KEY,
      signal: leaving.signal,
    })
    await expect.poll(() => replies.length).toBe(1)
    leaving.abort()
    await expect(first).rejects.toThrow()
    const ask = () => send(bridge, 'POST', '/request?topic=q&timeout=60000', KEY)
    expect((await ask()).status).toBe(409)
    replies[0]!()
    await expect.poll(async () => (await ask()).body).toBe('pong')
    expect(replies).toHaveLength(1)
  })

  test('that got no reply says so again, and sends nothing', async () => {
    const broker = await startMosquitto()
    let count = 0
    await startResponder(broker.url, 'q', () => void (count += 1))
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const ask = () => send(bridge, 'POST', '/request?topic=q&timeout=300', KEY)
    expect([(await ask()).status, (await ask()).status, count]).toEqual([504, 504, 1])
  })
})

test('properties in another order are the same request', async () => {
  const broker = hasMosquitto ? { MQTT_URL: (await startMosquitto()).url } : {}
  const bridge = await startBridge(broker)
  const userProperties = [
    { a: '1', b: ['2', '3'] },
    { b: ['2', '3'], a: '1' },
  ]
  const [first, again] = [
    await publish(bridge, { topic: 'a', properties: { contentType: 'x', userProperties: userProperties[0] } }, KEY),
    await publish(bridge, { topic: 'a', properties: { userProperties: userProperties[1], contentType: 'x' } }, KEY),
  ]
  expect(again.status).toBe(first.status)
  expect(again.headers.get('idempotency-replayed')).toBe(hasMosquitto ? 'true' : null)
  const other = { contentType: 'x', userProperties: { a: '1', b: ['3', '2'] } }
  expect((await publish(bridge, { topic: 'a', properties: other }, KEY)).status).toBe(422)
})

test.each([
  ['POST', '/publish/batch', 'application/json', '[{"topic":"a"}]'],
  ['POST', '/publish/batch', 'application/x-ndjson', '{"topic":"a"}'],
  ['DELETE', '/retained?topic=a', undefined, undefined],
])('%s %s (%s) refuses a key, as it would not heed it', async (method, path, type, body) => {
  const bridge = await startBridge()
  const answer = await send(bridge, method, path, { ...KEY, ...(type !== undefined && { 'content-type': type }) }, body)
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ in: 'headers', pointer: '#/idempotency-key' }] } })
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(0)
})

test('a kept answer has no topic, is held, and makes room for newer ones of its caller', async () => {
  const memory = new MemoryAccount({ totalBytes: 100_000 })
  const store = new MemoryStore<unknown>({ keysMax: 1000, keysMaxPerCaller: 1000, ttlMs: 60_000 })
  const once = createOnce(store, () => {})
  const topic = 't'.repeat(30_000)
  const run = (key: string, bytes: number) =>
    once({
      header: `"${key}"`,
      caller: 'a',
      share: memory.shareOf('a'),
      operation: 'publish',
      message: { topic, payload: Buffer.alloc(0), qos: 1, retain: false },
      run: async () => ({ topic, code: 0 }),
      keep: ({ code }) => code,
      sizeOf: () => bytes,
      restore: (code) => ({ topic, code }),
      onReplay: () => {},
    })
  for (let count = 0; count < 5; count += 1) await run(`small ${count}`, 100)
  expect(memory.byPurpose.idempotency).toBeLessThan(5000)
  expect(await run('small 0', 0)).toEqual({ topic, code: 0 })
  await run('large', 48_000)
  expect(store.size).toBeLessThan(6)
  // Too large for any room: the request was carried out, and its retry is not carried out again.
  await run('too large', 200_000)
  await expect(run('too large', 0)).rejects.toMatchObject({ kind: { code: 'overloaded' } })
})
