import { describe, expect, test } from 'vitest'
import { BROKERS, startBridge } from '../../support/bridge.ts'
import { get, publish } from '../../support/http.ts'
import { openStream } from '../../support/stream.ts'

describe.each(BROKERS)('on $name', ({ start }) => {
  test('the same events come one JSON object a line', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_HEARTBEAT_MS: 20 })
    await publish(bridge, { topic: 'n/a', payload: 'old', retain: true })
    const stream = await openStream(`${bridge.url}/subscribe?topic=n/%23`, { accept: 'application/x-ndjson' })
    expect(stream.headers['content-type']).toBe('application/x-ndjson; charset=utf-8')
    await publish(bridge, { topic: 'n/b', payload: 'a\r\nb\u2028c' })
    const lines = () =>
      stream
        .text()
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
        .filter(({ event }) => event !== 'heartbeat')
    await expect.poll(() => lines().length).toBe(3)
    expect(lines()).toEqual([
      { event: 'status', id: expect.stringMatching(/^[0-9a-f]+r-\d+$/), data: { broker: 'connected' } },
      {
        event: 'message',
        id: expect.stringMatching(/^[0-9a-f]+-\d+$/),
        data: { topic: 'n/a', payload: 'old', encoding: 'utf8', qos: expect.any(Number), retain: true },
      },
      {
        event: 'message',
        id: expect.stringMatching(/^[0-9a-f]+-\d+$/),
        data: { topic: 'n/b', payload: 'a\r\nb\u2028c', encoding: 'utf8', qos: 1, retain: false },
      },
    ])
    await expect.poll(() => stream.text()).toContain('\n{"event":"heartbeat"}\n')
    expect(stream.text()).not.toMatch(/[\u0085\u2028\u2029]|^\n|\n\n/)
  })
})

test.each([
  ['text/event-stream', 'text/event-stream'],
  ['text/*', 'text/event-stream'],
  ['*/*', 'text/event-stream'],
  ['application/x-ndjson, text/event-stream;q=0.5', 'application/x-ndjson'],
  ['application/x-ndjson;q=0.1, text/event-stream', 'text/event-stream'],
  ['text/html, application/x-ndjson', 'application/x-ndjson'],
])('Accept: %s gets %s', async (accept, type) => {
  const bridge = await startBridge()
  expect((await openStream(`${bridge.url}/subscribe?topic=a`, { accept })).headers['content-type']).toContain(type)
})

test.each(['text/html', 'application/json', 'text/event-stream;q=0'])('Accept: %s gets a 406', async (accept) => {
  const bridge = await startBridge()
  expect((await get(bridge, '/subscribe?topic=a', { accept })).body).toMatchObject({
    status: 406,
    code: 'not-acceptable',
  })
})
