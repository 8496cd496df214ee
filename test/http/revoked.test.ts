import { describe, expect, test } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { openBatch } from '../support/ndjson.ts'
import { expectStreams } from '../support/nothing-left.ts'
import { openStream } from '../support/stream.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const OVER = { event: 'status', data: { credentials: 'revoked' } }

describe('a token that is taken out of the file', () => {
  test('ends its streams with an event that says why, and nobody else’s', async () => {
    const [gone, stays] = [makeToken('gone', ['#']), makeToken('stays', ['#'])]
    const file = tokenFile([gone, stays])
    const bridge = await startBridge({ ...file.settings, ADMIN_PORT: 0 })
    const url = `${bridge.url}/subscribe?topic=a`
    const [ending, going, lines] = [
      await openStream(url, gone.headers),
      await openStream(url, stays.headers),
      await openStream(url, { ...gone.headers, accept: 'application/x-ndjson' }),
    ]
    file.write([stays])
    bridge.reload()

    for (const stream of [ending, lines]) {
      expect(await stream.next()).toMatchObject(OVER)
      await stream.ended
    }
    expect((await publish(bridge, { topic: 'a', payload: 'x' }, gone.headers)).status).toBe(401)
    expect((await publish(bridge, { topic: 'a', payload: 'x' }, stays.headers)).status).toBe(200)
    expect((await going.next()).data).toMatchObject({ payload: 'x' })
    expect((await openStream(url, gone.headers)).status).toBe(401)
    await expectStreams(bridge, 1)
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="revoked"}')).toBe(2)
  })

  test('fails the rest of a batch that is being sent', async () => {
    const one = makeToken('one', ['#'])
    const file = tokenFile([one])
    const bridge = await startBridge(file.settings)
    const sending = await openBatch(bridge.url, one.headers)
    sending.send('{"topic":"a"}\n')
    expect(await sending.next()).toMatchObject({ index: 0, status: 200 })
    file.write([])
    bridge.reload()
    sending.send('{"topic":"a"}\n')
    expect(await sending.next()).toMatchObject({ index: 1, problem: { status: 401, code: 'unauthorized' } })
  })
})

test('a token whose rules have changed comes back under the new ones', async () => {
  const one = makeToken('one', ['a'])
  const file = tokenFile([one])
  const bridge = await startBridge(file.settings)
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, one.headers)
  file.write([{ ...one, entry: { ...one.entry, subscribe: ['b'] } }])
  bridge.reload()
  expect(await stream.next()).toMatchObject(OVER)
  expect((await openStream(`${bridge.url}/subscribe?topic=a`, one.headers)).status).toBe(403)
  expect((await openStream(`${bridge.url}/subscribe?topic=b`, one.headers)).status).toBe(200)
})

test('the same file read again ends nothing', async () => {
  const one = makeToken('one', ['#'])
  const bridge = await startBridge({ ...tokenFile([one]).settings, ADMIN_PORT: 0 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, one.headers)
  bridge.reload()
  expect((await publish(bridge, { topic: 'a', payload: 'x' }, one.headers)).status).toBe(200)
  expect((await stream.next()).data).toMatchObject({ payload: 'x' })
  expect(await metric(bridge, 'causeway_stream_closed_total{reason="revoked"}')).toBe(0)
})

test.runIf(hasMosquitto)('the stream of a durable session ends too, and the broker keeps the session', async () => {
  const one = makeToken('one', ['#'])
  const file = tokenFile([one])
  const broker = await startMosquitto()
  const bridge = await startBridge({ ...file.settings, MQTT_URL: broker.url, ADMIN_PORT: 0 })
  const url = `${bridge.url}/subscribe?topic=a&session=s`
  const stream = await openStream(url, one.headers)
  expect((await stream.next()).data).toMatchObject({ present: false })
  file.write([])
  bridge.reload()
  expect(await stream.next()).toMatchObject(OVER)
  await stream.ended
  await expect.poll(() => metric(bridge, 'causeway_stream_closed_total{reason="revoked"}')).toBe(1)
  file.write([one])
  bridge.reload()
  await publish(bridge, { topic: 'a', payload: 'meanwhile' }, one.headers)
  const again = await openStream(url, one.headers)
  expect((await again.next()).data).toMatchObject({ present: true })
  expect((await again.next()).data).toMatchObject({ payload: 'meanwhile' })
})
