import { once } from 'node:events'
import { constants } from 'node:http2'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { spawnBridge } from '../../support/bridge-process.ts'
import { get, publishRaw } from '../../support/http.ts'
import { ask, openSession } from '../../support/http2.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'
import { openStream } from '../../support/stream.ts'

const idOf = async (url: string, id?: string): Promise<string | null> =>
  (await fetch(url, id === undefined ? {} : { headers: { 'x-request-id': id } })).headers.get('x-request-id')

test('every answer has the id that its request came with, or one of its own', async () => {
  const bridge = await startBridge()
  expect(await idOf(`${bridge.url}/livez`, 'f47ac10b-58cc-4372-a567-0e02b2c3d479')).toBe(
    'f47ac10b-58cc-4372-a567-0e02b2c3d479',
  )
  expect(await idOf(`${bridge.url}/nowhere`, 'a/b=')).toBe('a/b=')
  const own = [
    await idOf(`${bridge.url}/livez`),
    await idOf(`${bridge.url}/livez`, 'x'.repeat(129)),
    await idOf(`${bridge.url}/livez`, '{"level":50}'),
    await idOf(`${bridge.url}/%`),
  ]
  for (const id of own) expect(id).toMatch(/^[\da-f]{12}-\d+$/)
  expect(new Set(own).size).toBe(own.length)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, { 'x-request-id': 'stream-1' })
  expect(stream.headers['x-request-id']).toBe('stream-1')
})

test('a request is one line at debug, which has its id and nothing of its query', async () => {
  const bridge = await startBridge()
  await publishRaw(bridge, 'topic=secret/topic&qos=1', 'secret', { 'x-request-id': 'one' })
  const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1')
  socket.write('GET /subscribe?topic=secret HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: two\r\n\r\n')
  await once(socket, 'data')
  socket.destroy()
  const lineOf = (id: string) => bridge.logs.filter(({ requestId }) => requestId === id)
  await expect.poll(() => lineOf('two')).toHaveLength(1)
  const { time: _time, pid: _pid, hostname: _hostname, ms, ...line } = lineOf('one')[0]!
  expect(line).toEqual({ level: 20, msg: 'request', requestId: 'one', method: 'POST', route: '/publish', status: 200 })
  expect(ms).toBeGreaterThanOrEqual(0)
  expect(lineOf('two')).toMatchObject([{ level: 20, route: '/subscribe', status: 200, isCutOff: true }])
  expect(JSON.stringify(bridge.logs)).not.toContain('secret')
})

test('what callers cause is one warning of a kind in a second, then a count', async () => {
  const bridge = await startBridge({ MEMORY_BYTES: 16_777_216, BODY_LIMIT_BYTES: 12_000_000 })
  // One caller alone may hold half of it.
  const tooMuch = 'x'.repeat(9_000_000)
  for (let count = 0; count < 4; count += 1) expect((await publishRaw(bridge, 'topic=a', tooMuch)).status).toBe(503)
  const refused = await metric(bridge, 'causeway_memory_refusals_total{purpose="bodies"}')
  expect(refused).toBeGreaterThanOrEqual(4)
  const warnings = () => bridge.logs.filter(({ level, purpose }) => level === 40 && purpose === 'bodies')
  // However long they took: none is left out of the counts.
  await expect.poll(() => warnings().reduce((sum, { more }) => sum + (Number(more ?? 0) || 1), 0)).toBe(refused)
  expect(warnings()[0]!['msg']).toContain('CAUSEWAY_MEMORY_BYTES')
})

test('the log is for people where that is asked for', async () => {
  const bridge = spawnBridge({ LOG_FORMAT: 'pretty' })
  await bridge.url
  expect(bridge.stdout()).toMatch(/^\[\d\d:\d\d:\d\d\.\d+\] INFO: publish: {3}curl -d 21\.5 '/m)
  expect(bridge.stdout()).not.toContain('\u001b')
  expect((await get({ url: await bridge.url } as never, '/livez')).status).toBe(200)
})

test('over HTTP/2 too, a line says whether the client had the whole answer', async () => {
  const bridge = await startSecureBridge()
  const session = await openSession(bridge.url, bridge.ca)
  await ask(session, 'POST', '/publish?topic=a', { 'x-request-id': 'whole' }, 'x')
  const stream = session.request({ ':path': '/subscribe?topic=a', 'x-request-id': 'left' })
  await once(stream, 'response')
  stream.close(constants.NGHTTP2_CANCEL)
  const lineOf = (id: string) => bridge.logs.find(({ requestId }) => requestId === id)
  await expect.poll(() => lineOf('left')).toMatchObject({ route: '/subscribe', status: 200, isCutOff: true })
  expect(lineOf('whole')).toMatchObject({ route: '/publish', status: 200 })
  expect(lineOf('whole')).not.toHaveProperty('isCutOff')
})
