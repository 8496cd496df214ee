import { request } from 'node:http'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

/** Reads an answer that has to be a problem document. A stream would never end. */
async function problem(bridge: Bridge, query: string, headers: Record<string, string> = {}) {
  const stream = await openStream(`${bridge.url}/subscribe${query}`, headers)
  expect(stream.headers['content-type']).toMatch(/^application\/problem\+json/)
  await stream.ended
  return { status: stream.status, headers: stream.headers, body: JSON.parse(stream.text()) }
}

describe('a stream that cannot be is refused with every fault and its pointer', () => {
  test.each([
    ['no topic', '', [['#/topic', /missing/]]],
    ['no topic, only others', '?qos=1', [['#/topic', /missing/]]],
    ['an empty topic', '?topic=', [['#/topic/0', /empty/]]],
    ['# before the end', '?topic=a/%23/b', [['#/topic/0', /# only as its last level.*%23/]]],
    ['# within a level', '?topic=a%23', [['#/topic/0', /#/]]],
    ['+ within a level', '?topic=a+/b', [['#/topic/0', /\+ only as a whole level/]]],
    ['+ at a level’s end', '?topic=a/+b', [['#/topic/0', /\+/]]],
    ['NUL', '?topic=a%00b', [['#/topic/0', /control characters/]]],
    ['a line end', '?topic=a%0Ab', [['#/topic/0', /control characters/]]],
    ['DEL', '?topic=a%7F', [['#/topic/0', /control characters/]]],
    ['a non-character', '?topic=a%EF%BF%BE', [['#/topic/0', /non-characters/]]],
    ['a system topic', '?topic=$SYS/%23', [['#/topic/0', /\$.*CAUSEWAY_ALLOW_DOLLAR_TOPICS/]]],
    ['too many levels', `?topic=${'a/'.repeat(100)}a`, [['#/topic/0', /100 levels/]]],
    ['a shared filter without a group', '?topic=$share//a', [['#/topic/0', /\$share\/GROUP\/FILTER/]]],
    ['a shared filter without a filter', '?topic=$share/g', [['#/topic/0', /\$/]]],
    ['a shared filter with a wildcard group', '?topic=$share/+/a', [['#/topic/0', /\$share\/GROUP\/FILTER/]]],
    ['the second filter', '?topic=a&topic=b%23', [['#/topic/1', /#/]]],
    ['a QoS that is none', '?topic=a&qos=3', [['#/qos', /0, 1, 2/]]],
    ['a QoS that is no number', '?topic=a&qos=one', [['#/qos', /integer|one of 0, 1, 2/]]],
    ['a negative QoS', '?topic=a&qos=-1', [['#/qos', /0, 1, 2/]]],
    ['two QoS', '?topic=a&qos=1&qos=2', [['#/qos', /integer|one of 0, 1, 2/]]],
    ['another encoding', '?topic=a&encoding=xml', [['#/encoding', /"json"/]]],
    ['an unknown parameter', '?topic=a&tpoic=b', [['#/tpoic', /not a known/]]],
    ['an awkward unknown parameter', '?topic=a&a~/b=', [['#/a~0~1b', /not a known/]]],
  ])('%s', async (_case, query, faults) => {
    const bridge = await startBridge()
    const { status, body } = await problem(bridge, query)
    expect([status, body.status, body.code, body.retryable]).toEqual([400, 400, 'invalid-request', false])
    for (const [pointer, detail] of faults) {
      expect(body.errors).toContainEqual({ in: 'query', pointer, detail: expect.stringMatching(detail!) })
    }
    await expectNothingLeft(bridge)
  })

  test('all of them at once', async () => {
    const bridge = await startBridge()
    const { body } = await problem(bridge, '?topic=a%23&topic=ok&topic=b+&qos=7&encoding=xml&colour=red')
    expect(body.errors.map(({ pointer }: { pointer: string }) => pointer).sort()).toEqual([
      '#/colour',
      '#/encoding',
      '#/qos',
      '#/topic/0',
      '#/topic/2',
    ])
  })

  test('more filters than STREAM_FILTERS_MAX, and as many are none', async () => {
    const bridge = await startBridge({ STREAM_FILTERS_MAX: 3 })
    const { status, body } = await problem(bridge, '?topic=a&topic=b&topic=c&topic=d')
    expect([status, body.errors]).toMatchObject([
      400,
      [{ in: 'query', pointer: '#/topic', detail: expect.stringContaining('3') }],
    ])
    expect((await openStream(`${bridge.url}/subscribe?topic=a&topic=b&topic=c`)).status).toBe(200)
  })

  test('system topics are followed where that is allowed', async () => {
    const bridge = await startBridge({ ALLOW_DOLLAR_TOPICS: true })
    expect((await openStream(`${bridge.url}/subscribe?topic=$SYS/%23`)).status).toBe(200)
  })
})

describe('a request for a stream', () => {
  test.each(['application/json', 'text/html', 'image/*', 'text/plain, application/json', 'text/event-streams'])(
    'that accepts only %s gets 406',
    async (accept) => {
      const bridge = await startBridge()
      const { status, body } = await problem(bridge, '?topic=a', { accept })
      expect([status, body.code]).toEqual([406, 'not-acceptable'])
      expect(body.detail).toContain('text/event-stream')
      await expectNothingLeft(bridge)
    },
  )

  test.each(['POST', 'PUT', 'DELETE', 'HEAD', 'PATCH'])(
    'by %s gets 405 and the method that is allowed',
    async (method) => {
      const bridge = await startBridge()
      const call = request(`${bridge.url}/subscribe?topic=a`, { method }).end()
      const [response] = (await once(call, 'response')) as [IncomingMessage]
      response.resume()
      expect([response.statusCode, response.headers.allow]).toEqual([405, 'GET'])
      await expectNothingLeft(bridge)
    },
  )

  test('beyond STREAM_MAX gets 503 and when to come back, until another one ends', async () => {
    const bridge = await startBridge({ STREAM_MAX: 2 })
    const streams = [
      await openStream(`${bridge.url}/subscribe?topic=a`),
      await openStream(`${bridge.url}/subscribe?topic=b`),
    ]
    const { status, headers, body } = await problem(bridge, '?topic=a')
    expect([status, body.code, body.retryable]).toEqual([503, 'too-many-streams', true])
    expect(Number(headers['retry-after'])).toBeGreaterThan(0)
    streams[0]!.close()
    await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(1)
    const next = await openStream(`${bridge.url}/subscribe?topic=a`)
    expect(next.status).toBe(200)
  })

  test('that fails does not count against STREAM_MAX', async () => {
    const bridge = await startBridge({ STREAM_MAX: 1 })
    for (let count = 0; count < 3; count += 1) {
      expect((await get(bridge, '/subscribe?topic=a%23')).status).toBe(400)
      expect((await get(bridge, '/subscribe?topic=a', { accept: 'text/html' })).status).toBe(406)
    }
    expect((await openStream(`${bridge.url}/subscribe?topic=a`)).status).toBe(200)
  })
})
