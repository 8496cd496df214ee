import { describe, expect, test } from 'vitest'
import { metric } from '../../support/bridge.ts'
import { hasOpenssl } from '../../support/certificates.ts'
import { ask, follow, openSession } from '../../support/http2.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft, expectStreams } from '../../support/nothing-left.ts'
import { cancel, frame, openRaw, postHeaders } from '../../support/raw-http2.ts'
import { startSecureBridge } from '../../support/secure-bridge.ts'

describe.skipIf(!hasOpenssl)('over HTTP/2', () => {
  test.each([
    ['a payload', '/publish?topic=a', {}, 'half a payl'],
    [
      'a line of a batch',
      '/publish/batch',
      { 'content-type': 'application/x-ndjson' },
      '{"topic":"a","payload":"half a payl"}',
    ],
  ])('%s that was cut off is not published', async (_what, path, headers, body) => {
    const bridge = await startSecureBridge()
    const messages = await collect(await mqttClient(bridge.embeddedUrl!), 'a')
    for (const leave of ['reset', 'close'] as const) {
      const socket = await openRaw(bridge.url, bridge.ca)
      socket.write(
        Buffer.concat([postHeaders(path, headers), frame('data', body), ...(leave === 'reset' ? [cancel] : [])]),
      )
      if (leave === 'close') socket.end()
    }
    // If the requests before had published anything, it would have arrived before this message.
    const session = await openSession(bridge.url, bridge.ca)
    expect((await ask(session, 'POST', '/publish?topic=a', {}, 'whole')).status).toBe(200)
    expect((await messages.next()).payload.toString()).toBe('whole')
    expect(await metric(bridge, 'causeway_http_requests_total{method="POST",route="/publish",status_code="200"}')).toBe(
      1,
    )
    expect(bridge.logs.filter(({ level }) => (level as number) >= 40)).toEqual([])
  })

  test('who resets one stream leaves nothing behind, and the others on the connection notice nothing', async () => {
    const bridge = await startSecureBridge()
    const session = await openSession(bridge.url, bridge.ca)
    const [leaving, staying] = await Promise.all([follow(session, 'topic=a'), follow(session, 'topic=b')])
    await expectStreams(bridge, 2)
    leaving!.stream.close(8)
    await expectStreams(bridge, 1)
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
    await ask(session, 'POST', '/publish?topic=b', {}, 'x')
    expect((await staying!.take(1))[0]!.data.payload).toBe('x')
    session.destroy()
    await expectNothingLeft(bridge)
  })

  test('a stalled reader costs no more than the log, gets a gap, and delays no stream of its connection', async () => {
    const bridge = await startSecureBridge({ STREAM_LOG_BYTES: 65_536 })
    const session = await openSession(bridge.url, bridge.ca)
    const [stalled, reading] = await Promise.all([follow(session, 'topic=a'), follow(session, 'topic=a')])
    stalled!.stream.pause()
    const payload = 'x'.repeat(10_000)
    for (let index = 0; index < 300; index += 1) {
      expect((await ask(session, 'POST', '/publish?topic=a', {}, `${index} ${payload}`)).status).toBe(200)
    }
    expect((await reading!.take(300)).map(({ data }) => Number.parseInt(data.payload))).toEqual(
      Array.from({ length: 300 }, (_, index) => index),
    )
    stalled!.stream.resume()
    await expect.poll(() => stalled!.events.at(-1)?.data.payload).toMatch(/^299 /)
    expect(stalled!.events.filter(({ event }) => event === 'gap')).toMatchObject([{ data: { reason: 'overrun' } }])
    // Of three megabytes only what the stream's window and the log can hold was kept for this reader.
    expect(stalled!.events.length).toBeLessThan(60)
  })

  test('a reader that stalls for too long is ended, and the connection lives on', async () => {
    const bridge = await startSecureBridge({ STREAM_HEARTBEAT_MS: 20, STREAM_STALL_MS: 50 })
    const session = await openSession(bridge.url, bridge.ca)
    const stalled = await follow(session, 'topic=a')
    stalled.stream.pause()
    for (let index = 0; index < 10; index += 1) await ask(session, 'POST', '/publish?topic=a', {}, 'x'.repeat(50_000))
    await expect.poll(() => metric(bridge, 'causeway_stream_closed_total{reason="stalled"}')).toBe(1)
    await expectNothingLeft(bridge)
    stalled.stream.resume()
    await stalled.ended
    expect((await ask(session, 'GET', '/openapi.json')).status).toBe(200)
  })
})
