import { expect, test, vi } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { createAuthority, hasOpenssl } from '../support/certificates.ts'
import { publish } from '../support/http.ts'
import { pushFile, pushState, startEndpoint, untilPush } from '../support/push-endpoint.ts'

const outcomes = (bridge: Bridge, outcome: string) =>
  metric(bridge, `causeway_push_deliveries_total{push="hook",outcome="${outcome}"}`)

/** A bridge with one target named `hook`, and its endpoint. */
async function startPush(target: object = {}, settings = {}) {
  const endpoint = await startEndpoint()
  const file = pushFile([{ name: 'hook', topics: ['a/#'], url: endpoint.url, retryMaxMs: 50, ...target }])
  const bridge = await startBridge({ PUSH_FILE: file.path, ...settings })
  await untilPush(bridge)
  const send = async (...payloads: string[]) => {
    for (const payload of payloads) await publish(bridge, { topic: `a/${payload[0]}`, payload })
  }
  return { endpoint, bridge, send, file }
}

test('5xx, 408, 425 and 429 are tried again with the same id until a 2xx, and the next message waits', async () => {
  const { endpoint, bridge, send } = await startPush()
  const statuses = [500, 503, 408, 425, 429, 599]
  endpoint.answer = (_, index) => statuses[index] ?? 201
  await send('one', 'two')
  const requests = await endpoint.take(8)
  expect(endpoint.payloads()).toEqual(['one', 'one', 'one', 'one', 'one', 'one', 'one', 'two'])
  expect(new Set(requests.map(({ headers }) => headers['webhook-id'])).size).toBe(2)
  await expect.poll(() => outcomes(bridge, 'delivered')).toBe(2)
  expect(await outcomes(bridge, 'retried')).toBe(6)
  expect(await pushState(bridge)).toMatchObject({ state: 'active', lastError: { reason: 'it answered 599' } })
})

test('Retry-After is honoured by all requests of the target', async () => {
  const { endpoint, send } = await startPush({ concurrency: 2 })
  endpoint.answer = (_, index) => (index === 0 ? { status: 429, headers: { 'retry-after': '1' } } : 200)
  await send('one')
  await endpoint.take(1)
  await send('two')
  const [first, ...others] = await endpoint.take(3)
  for (const { at } of others) expect(at - first!.at).toBeGreaterThan(950)
})

test('any other status is final: the message is dropped with a warning, redirects too, and the next goes on', async () => {
  const { endpoint, bridge, send } = await startPush()
  const statuses = [400, 401, 404, 413, 301, 307]
  endpoint.answer = (_, index) => ({
    status: statuses[index] ?? 200,
    headers: { location: `http://127.0.0.1:${endpoint.port}/other` },
  })
  const payloads = [...statuses, 'last'].map(String)
  await send(...payloads)
  await endpoint.take(7)
  expect(endpoint.payloads()).toEqual(payloads)
  expect(endpoint.requests.every(({ path }) => path === '/hook')).toBe(true)
  await expect.poll(() => outcomes(bridge, 'rejected')).toBe(6)
  await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(0)
  const warnings = bridge.logs.filter(({ msg }) => msg === 'messages for a push endpoint were dropped')
  // At most one in a minute.
  expect(warnings).toMatchObject([{ push: 'hook', dropped: 1, reason: 'it answered 400' }])
})

test('no answer, half an answer, a reset and an answer that is not HTTP are tried again', async () => {
  const { endpoint, bridge, send } = await startPush({ timeoutMs: 300 })
  const reasons: (string | undefined)[] = []
  endpoint.answer = async (_, index) => {
    reasons.push((await pushState(bridge)).lastError?.reason)
    if (index === 0) return () => {}
    if (index === 1) return (response) => void response.writeHead(200, { 'content-length': 10 }).write('half')
    if (index === 2) {
      return (response, socket) =>
        void response.writeHead(200, { 'content-length': 10 }).write('half', () => socket.destroy())
    }
    if (index === 3) return (_response, socket) => void socket.resetAndDestroy()
    if (index === 4) return (_response, socket) => void socket.end('nonsense\r\n\r\n')
    return 200
  }
  await send('one')
  await endpoint.take(6)
  await expect.poll(() => outcomes(bridge, 'delivered')).toBe(1)
  expect(reasons).toEqual([
    undefined,
    'no whole answer came within 300 ms',
    'no whole answer came within 300 ms',
    expect.stringMatching(/^the connection was closed before the whole answer had come/),
    'the connection was reset (ECONNRESET)',
    expect.stringMatching(/^its answer is not HTTP/),
  ])
})

test('after so many attempts a message is given up', async () => {
  const { endpoint, bridge, send } = await startPush({ attempts: 3 })
  endpoint.answer = ({ body }) => (body.includes('bad') ? 500 : 200)
  await send('bad', 'good')
  await endpoint.take(4)
  expect(endpoint.payloads()).toEqual(['bad', 'bad', 'bad', 'good'])
  await expect.poll(() => outcomes(bridge, 'given_up')).toBe(1)
})

test('410 pauses the target until SIGHUP, and loses nothing', async () => {
  const { endpoint, bridge, send } = await startPush()
  endpoint.answer = (_, index) => (index === 0 ? 410 : 200)
  await send('one', 'two')
  expect(await untilPush(bridge, 'paused')).toMatchObject({ lastError: { reason: 'it answered 410' }, waiting: 2 })
  expect(endpoint.requests.length).toBe(1)
  bridge.reload()
  await endpoint.take(3)
  expect(endpoint.payloads()).toEqual(['one', 'one', 'two'])
  await untilPush(bridge)
})

test('with concurrency, topics go side by side, and each keeps its order over failures', async () => {
  const { endpoint, bridge, send } = await startPush({ concurrency: 4 }, { SESSION_MAX_UNACKED: 50 })
  endpoint.answer = async () => {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 10))
    return Math.random() < 0.2 ? 503 : 200
  }
  const delivered: string[] = []
  const answer = endpoint.answer
  endpoint.answer = async (request, index) => {
    const status = await answer(request, index)
    if (status === 200) delivered.push((JSON.parse(request.body.toString()) as { payload: string }).payload)
    return status
  }
  const payloads = Array.from({ length: 120 }, (_, index) => `${index % 6}-${index}`)
  await send(...payloads)
  await vi.waitUntil(() => delivered.length >= 120, { timeout: 30_000 })
  for (let topic = 0; topic < 6; topic += 1) {
    expect(delivered.filter((payload) => payload.startsWith(`${topic}-`))).toEqual(
      payloads.filter((payload) => payload.startsWith(`${topic}-`)),
    )
  }
  expect(endpoint.openMost).toBeGreaterThan(1)
  expect(endpoint.openMost).toBeLessThanOrEqual(4)
  await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(0)
})

test('a batch is one array, and one message that is refused does not take the others with it', async () => {
  const { endpoint, bridge, send } = await startPush({ batch: 4 })
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  endpoint.answer = async ({ body }, index) => {
    if (index === 0) await held
    return body.includes('bad') ? 400 : 200
  }
  await send('0')
  await endpoint.take(1)
  await send('1', '2', 'bad', '4', '5')
  await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(6)
  release()
  await expect.poll(() => outcomes(bridge, 'delivered')).toBe(5)
  await expect.poll(() => outcomes(bridge, 'rejected')).toBe(1)
  const bodies = endpoint.requests.map(({ body }) =>
    (JSON.parse(body.toString()) as { payload: string }[]).map(({ payload }) => payload),
  )
  expect(bodies).toEqual([['0'], ['1', '2', 'bad', '4'], ['1', '2'], ['bad', '4'], ['bad'], ['4'], ['5']])
})

test.runIf(hasMosquitto)('a message that expires while it waits is given up, and the next goes on', async () => {
  const { endpoint, bridge } = await startPush({}, { MQTT_URL: (await startMosquitto()).url })
  endpoint.answer = ({ body }) => (body.includes('short') ? 503 : 200)
  await publish(bridge, { topic: 'a', payload: 'short', properties: { messageExpiryInterval: 1 } })
  await publish(bridge, { topic: 'a', payload: 'long', properties: { messageExpiryInterval: 100 } })
  await vi.waitUntil(() => endpoint.payloads().includes('long'), { timeout: 20_000 })
  await expect.poll(() => outcomes(bridge, 'given_up')).toBe(1)
  expect(await pushState(bridge)).toMatchObject({ lastError: { reason: 'it has expired' } })
})

test.runIf(hasOpenssl)(
  'what is wrong with a certificate is said in words, and a CA of one’s own is trusted',
  async () => {
    const authority = createAuthority()
    try {
      const [good, other] = [
        await startEndpoint(authority.issue('good')),
        await startEndpoint(authority.issue('other', { names: 'DNS:other.example' })),
      ]
      const expired = await startEndpoint(authority.issue('expired', { expired: true }))
      const targets = { good, other, expired }
      const file = pushFile(
        Object.entries(targets).map(([name, { url }]) => ({ name, topics: ['a'], url, retryMaxMs: 50 })),
      )
      const plain = await startBridge({ PUSH_FILE: file.path })
      await untilPush(plain, 'active', 'good')
      await publish(plain, { topic: 'a', payload: 'one' })
      const { lastError } = await untilPush(plain, 'retrying', 'good')
      expect(lastError!.reason).toMatch(/^no trusted authority has signed its certificate/)
      await plain.close()
      const bridge = await startBridge({ PUSH_FILE: file.path, PUSH_CA_FILE: authority.caFile })
      await untilPush(bridge, 'active', 'good')
      await publish(bridge, { topic: 'a', payload: 'two' })
      await good.take(1)
      expect((await untilPush(bridge, 'retrying', 'other')).lastError!.reason).toMatch(
        /^its certificate is for another name/,
      )
      expect((await untilPush(bridge, 'retrying', 'expired')).lastError!.reason).toMatch(/^its certificate has expired/)
    } finally {
      authority.remove()
    }
  },
)

test('of an answer without end only the status counts, and its connection is closed', async () => {
  const { endpoint, bridge, send } = await startPush()
  let closed = 0
  endpoint.answer = () => (response) => {
    response.writeHead(200).once('close', () => (closed += 1))
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      response.once('drain', more)
    }
    more()
  }
  await send('one', 'two')
  await expect.poll(() => outcomes(bridge, 'delivered')).toBe(2)
  expect(endpoint.payloads()).toEqual(['one', 'two'])
  await expect.poll(() => closed).toBe(2)
})
