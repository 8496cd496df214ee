import { once } from 'node:events'
import type { ClientHttp2Session } from 'node:http2'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'
import { metric } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { hasOpenssl } from '../../support/certificates.ts'
import { ask, follow, openSession } from '../../support/http2.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'
import { tokenFile } from '../../support/token-file.ts'

const JSON_BODY = { 'content-type': 'application/json' }

function publish(session: ClientHttp2Session, payload: string) {
  return ask(session, 'POST', '/publish', JSON_BODY, JSON.stringify({ topic: 'a/b', payload }))
}

describe.skipIf(!hasOpenssl)('over HTTP/2', () => {
  test('a payload arrives byte for byte, though the request says of it neither length nor type', async () => {
    const bridge = await startSecureBridge()
    const session = await openSession(bridge.url, bridge.ca)
    expect(session.alpnProtocol).toBe('h2')
    const messages = await collect(await mqttClient(bridge.embeddedUrl!), 'a/b')
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 256))
    expect(await ask(session, 'POST', '/publish?topic=a/b', {}, bytes)).toMatchObject({
      status: 200,
      body: { topic: 'a/b', qos: 1 },
    })
    expect(bytes.equals((await messages.next()).payload as Buffer)).toBe(true)
    expect((await ask(session, 'POST', '/publish?topic=a/b')).status).toBe(200)
    expect((await messages.next()).payload).toHaveLength(0)
    expect((await publish(session, 'x')).status).toBe(200)
    expect((await messages.next()).payload.toString()).toBe('x')
  })

  test.skipIf(!hasMosquitto)('the type of a payload is the message’s content type', async () => {
    const { url } = await startMosquitto()
    const bridge = await startSecureBridge({ MQTT_URL: url })
    const session = await openSession(bridge.url, bridge.ca)
    const messages = await collect(await mqttClient(url, { protocolVersion: 5 }), 'a/b')
    await ask(session, 'POST', '/publish?topic=a/b', { 'content-type': 'image/png' }, 'x')
    expect((await messages.next()).properties).toMatchObject({ contentType: 'image/png' })
    await ask(session, 'POST', '/publish?topic=a/b', {}, 'x')
    expect((await messages.next()).properties?.contentType).toBeUndefined()
  })

  test('ten streams share one connection, and each goes on behind its last event', async () => {
    const bridge = await startSecureBridge({ STREAM_LINGER_MS: 60_000 })
    const session = await openSession(bridge.url, bridge.ca)
    const streams = await Promise.all(Array.from({ length: 10 }, () => follow(session, 'topic=a/%23')))
    expect(streams[0]!.headers).toMatchObject({
      ':status': 200,
      'content-type': expect.stringMatching('^text/event-stream'),
      'x-accel-buffering': 'no',
    })
    await expectStreams(bridge, 10)
    for (const payload of ['1', '2', '3']) await publish(session, payload)
    const events = await Promise.all(streams.map((stream) => stream.take(3)))
    for (const some of events) expect(some.map(({ data }) => data.payload)).toEqual(['1', '2', '3'])
    expect(await metric(bridge, 'causeway_subscription_filters')).toBe(1)

    streams[0]!.stream.close()
    await expectStreams(bridge, 9)
    const resumed = await follow(session, 'topic=a/%23', { 'last-event-id': events[0]![1]!.id! })
    await publish(session, '4')
    expect((await resumed.take(2)).map(({ data }) => data.payload)).toEqual(['3', '4'])
    expect((await streams[9]!.take(1))[0]!.data.payload).toBe('4')
  })

  test('a batch is answered while it is sent', async () => {
    const bridge = await startSecureBridge()
    const session = await openSession(bridge.url, bridge.ca)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/publish/batch',
      'content-type': 'application/x-ndjson',
    })
    const results = createInterface({ input: stream })[Symbol.asyncIterator]()
    for (const index of [0, 1, 2]) {
      stream.write(`${JSON.stringify({ topic: 'a', payload: String(index) })}\n`)
      expect(JSON.parse((await results.next()).value!)).toMatchObject({ index, status: 200 })
    }
    stream.end('{"topic":"a/#"}\n')
    expect(JSON.parse((await results.next()).value!)).toMatchObject({ index: 3, problem: { code: 'invalid-request' } })
    expect(JSON.parse((await results.next()).value!)).toEqual({ end: true, read: 4, published: 3 })
    expect((await results.next()).done).toBe(true)
  })

  test('what is wrong is a problem, and the connection lives on', async () => {
    const bridge = await startSecureBridge({ BODY_LIMIT_BYTES: 1000 })
    const session = await openSession(bridge.url, bridge.ca)
    const problem = (code: string, status: number) => ({
      status,
      headers: { 'content-type': expect.stringMatching('^application/problem\\+json') },
      body: { code, status },
    })
    expect(await ask(session, 'GET', '/none')).toMatchObject(problem('not-found', 404))
    expect(await ask(session, 'GET', '/livez', { 'x-long': 'x'.repeat(16_384) })).toMatchObject(
      problem('headers-too-large', 431),
    )
    expect(await ask(session, 'POST', '/publish', JSON_BODY, '{')).toMatchObject(problem('invalid-request', 400))
    expect(await ask(session, 'POST', '/publish', JSON_BODY, '')).toMatchObject(problem('invalid-request', 400))
    expect(await ask(session, 'POST', '/publish?topic=a', {}, 'x'.repeat(1001))).toMatchObject(
      problem('payload-too-large', 413),
    )
    expect(await ask(session, 'POST', '/publish?topic=a', { origin: 'https://evil.example' }, 'x')).toMatchObject(
      problem('forbidden', 403),
    )
    expect(await ask(session, 'POST', '/publish?topic=a', { origin: bridge.url }, 'x')).toMatchObject({ status: 200 })
  })

  test('a body that nobody reads does not keep its stream', async () => {
    const bridge = await startSecureBridge({ ...tokenFile([]).settings, BODY_LIMIT_BYTES: 1000 })
    const session = await openSession(bridge.url, bridge.ca)
    const stream = session.request({ ':method': 'POST', ':path': '/publish?topic=a' })
    stream.write('x')
    const [headers] = await once(stream, 'response')
    expect(headers[':status']).toBe(401)
    stream.resume()
    await once(stream, 'close')
  })

  test('a body that is too large does not keep its stream', async () => {
    const bridge = await startSecureBridge({ BODY_LIMIT_BYTES: 1000 })
    const session = await openSession(bridge.url, bridge.ca)
    const stream = session.request({ ':method': 'POST', ':path': '/publish?topic=a' })
    stream.write('x'.repeat(1001))
    const [headers] = await once(stream, 'response')
    expect(headers[':status']).toBe(413)
    stream.resume()
    await once(stream, 'close')
  })

  test('the number of streams on one connection has a limit', async () => {
    const bridge = await startSecureBridge()
    const session = await openSession(bridge.url, bridge.ca)
    await expect.poll(() => session.remoteSettings.maxConcurrentStreams).toBe(256)
  })
})
