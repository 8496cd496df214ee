import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { batch, openBatch } from '../../support/ndjson.ts'

describe.each(BROKERS)('on $name', ({ start }) => {
  test('an array gets a result for each message, in order', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), 'b/#')
    const answer = await batch(bridge.url, 'json', [
      { topic: 'b/1', payload: 'one' },
      { topic: 'b/2', qos: 0 },
      { topic: 'b/3', payload: { a: 1 }, qos: 2 },
    ])
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject([
      { index: 0, status: 200, topic: 'b/1', qos: 1 },
      { index: 1, status: 202, topic: 'b/2', qos: 0 },
      { index: 2, status: 200, topic: 'b/3', qos: 2 },
    ])
    const got = [await messages.next(), await messages.next(), await messages.next()]
    expect(got.map(({ topic, payload }) => [topic, payload.toString()]).toSorted()).toEqual([
      ['b/1', 'one'],
      ['b/2', ''],
      ['b/3', '{"a":1}'],
    ])
  })

  test('a bad message of an array fails alone, with all that is wrong with it, and the answer is 207', async () => {
    const bridge = await startBridge(await start())
    const answer = await batch(bridge.url, 'json', [{ topic: 'b/1' }, { topic: 'b/#', qos: 3 }, null, { topic: 'b/4' }])
    expect(answer.status).toBe(207)
    expect(answer.headers.get('content-type')).toContain('application/json')
    expect(answer.body).toMatchObject([
      { index: 0, status: 200 },
      {
        index: 1,
        problem: { status: 400, code: 'invalid-request', errors: [{ pointer: '#/topic' }, { pointer: '#/qos' }] },
      },
      { index: 2, problem: { status: 400 } },
      { index: 3, status: 200 },
    ])
  })

  test('NDJSON gets a line for each message with its index and line number', async () => {
    const bridge = await startBridge({ ...(await start()), BODY_LIMIT_BYTES: 100 })
    const lines = [
      '{"topic":"b/1"}',
      '',
      '{"topic":',
      `{"topic":"b/2","payload":"${'x'.repeat(101)}"}`,
      '{"topic":"b/3","__proto__":{"qos":2}}',
      '{"topic":"b/4","qos":0}\r',
      '\r',
      '{"topic":"b/+"}',
      '7',
      '{"topic":"b/5"}',
    ]
    const answer = await batch(bridge.url, 'x-ndjson', lines.join('\n'))
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toContain('application/x-ndjson')
    expect(answer.body).toMatchObject([
      { index: 0, line: 1, status: 200 },
      { index: 1, line: 3, problem: { status: 400 } },
      { index: 2, line: 4, problem: { status: 413, code: 'payload-too-large' } },
      { index: 3, line: 5, problem: { status: 400 } },
      { index: 4, line: 6, status: 202 },
      { index: 5, line: 8, problem: { status: 400, errors: [{ pointer: '#/topic' }] } },
      { index: 6, line: 9, problem: { status: 400 } },
      { index: 7, line: 10, status: 200 },
    ])
    expect(answer.body).toHaveLength(8)
    expect(answer.end).toEqual({ end: true, read: 8, published: 3 })
  })

  test('results come while the batch is still being sent', async () => {
    const bridge = await startBridge(await start())
    const conversation = openBatch(bridge.url)
    for (let index = 0; index < 3; index += 1) {
      conversation.send(`{"topic":"b/${index}"}\n`)
      expect(await conversation.next()).toMatchObject({ index, line: index + 1, status: 200, topic: `b/${index}` })
    }
    conversation.send('{"topic":"b/')
    conversation.send('last"}')
    conversation.end()
    expect(await conversation.rest()).toMatchObject([{ index: 3, line: 4, status: 200, topic: 'b/last' }])
  })

  test.each(['json', 'x-ndjson'] as const)(
    '%s that is more than may be in flight waits for room, and each topic keeps its order',
    async (type) => {
      const settings = await start()
      const bridge = await startBridge({ ...settings, PUBLISH_MAX_IN_FLIGHT: 5, PUBLISH_CONNECTIONS: 2 })
      const messages = await collect(await mqttClient(brokerUrl(bridge, settings)), 'b/#')
      const batched = Array.from({ length: 400 }, (_, index) => ({
        topic: `b/${index % 3}`,
        payload: `${index}`,
        qos: 1 + ((index % 3) % 2),
      }))
      const answer = await batch(
        bridge.url,
        type,
        type === 'json' ? batched : batched.map((message) => JSON.stringify(message)).join('\n'),
      )
      expect(answer.status).toBe(200)
      expect(answer.body.map(({ status }: { status: number }) => status)).toEqual(batched.map(() => 200))
      const orders: Record<string, number[]> = {}
      for (let count = 0; count < 400; count += 1) {
        const { topic, payload } = await messages.next()
        ;(orders[topic] ??= []).push(Number(payload.toString()))
      }
      for (const order of Object.values(orders)) expect(order).toEqual(order.toSorted((a, b) => a - b))
      expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    },
  )
})

test.each([
  [413, 'payload-too-large', [{ topic: 'a' }, { topic: 'a' }, { topic: 'a' }]],
  [400, 'invalid-request', { topic: 'a' }],
  [400, 'invalid-request', '[{"topic":"a"}'],
  [400, 'invalid-request', Buffer.from('[{"topic":"a","payload":"\xff"}]', 'latin1')],
])('%i %s as a whole, with nothing published', async (status, code, body) => {
  const bridge = await startBridge({ BATCH_MAX: 2 })
  expect(await batch(bridge.url, 'json', body)).toMatchObject({ status, body: { code } })
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="acknowledged"}')).toBe(0)
})

test('a member named __proto__ is one that is not known, and its message fails alone', async () => {
  const bridge = await startBridge()
  const { status, body } = await batch(bridge.url, 'json', '[{"topic":"a","__proto__":{"qos":0}},{"topic":"a"}]')
  expect([status, body[0].problem.code, body[1].status]).toEqual([207, 'invalid-request', 200])
})

test('a line that is not UTF-8 fails alone; nothing is published in its place', async () => {
  const bridge = await startBridge()
  const answer = await batch(
    bridge.url,
    'x-ndjson',
    Buffer.from('{"topic":"a","payload":"\xff"}\n{"topic":"a","payload":"\xc3\xbc"}\n', 'latin1'),
  )
  expect(answer.body).toMatchObject([
    { line: 1, problem: { status: 400 } },
    { line: 2, status: 200 },
  ])
})

test('an empty batch has no results', async () => {
  const bridge = await startBridge()
  expect(await batch(bridge.url, 'json', [])).toMatchObject({ status: 200, body: [] })
  expect(await batch(bridge.url, 'x-ndjson', '\n\n')).toMatchObject({
    status: 200,
    body: [],
    end: { end: true, read: 0, published: 0 },
  })
})

test('a batch of another type is refused', async () => {
  const bridge = await startBridge()
  const response = await fetch(`${bridge.url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: '[]',
  })
  expect(response.status).toBe(415)
})
