import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BROKERS, type Bridge, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { get, publish, publishRaw } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream } from '../../support/stream.ts'

const LINES = { accept: 'application/x-ndjson' }
/** Text that could end a line in either format, or be read as a field. */
const TEXTS = [
  'a\nb',
  'a\rb',
  'a\r\n\r\nb',
  '\u2028\u2029',
  '\nid: 9\ndata: x\n\n',
  '"}\n{"event":"gap"}\n',
  '\0',
  '\ufeff',
  '',
]

async function expectNoLines(bridge: Bridge): Promise<void> {
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="ndjson"}')).toBe(0)
  await expectNothingLeft(bridge)
}

describe.each(BROKERS)('a stream of lines on $name', ({ start }) => {
  test('has the same events as one of server-sent events, whatever the payload', async () => {
    const bridge = await startBridge(await start())
    const path = `${bridge.url}/subscribe?topic=a`
    const [events, lines] = [await openStream(path), await openStream(path, LINES)]
    expect(lines.headers['content-type']).toBe('application/x-ndjson; charset=utf-8')
    expect(lines.headers).toMatchObject({ 'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no' })
    for (const text of TEXTS) await publishRaw(bridge, 'topic=a', text)
    await publishRaw(bridge, 'topic=a', Uint8Array.of(0xff, 0x0a, 0x0d))
    const expected = await events.take(TEXTS.length + 1)
    expect(expected.map(({ data }) => data.payload)).toEqual([...TEXTS, '/woN'])
    expect(await lines.take(TEXTS.length + 1)).toEqual(expected)
    // The status that it begins with, and a line for each message.
    expect(lines.text().match(/[^\n]+/g)).toHaveLength(TEXTS.length + 2)
    events.close()
    lines.close()
    await expectNoLines(bridge)
  })

  test('embeds JSON where asked to, in both formats, and nothing else as JSON', async () => {
    const bridge = await startBridge(await start())
    const path = `${bridge.url}/subscribe?topic=a&encoding=json`
    const streams = [await openStream(path), await openStream(path, LINES)]
    const plain = await openStream(`${bridge.url}/subscribe?topic=a`, LINES)
    const json = '{ "on": true,\r\n "list": [1, "\\u2028"] }'
    for (const payload of [json, '21.5', 'null', '"text"', 'no JSON', '', '{"a":1} x']) {
      await publishRaw(bridge, 'topic=a', payload)
    }
    for (const stream of streams) {
      expect((await stream.take(7)).map(({ data: { payload, encoding } }) => [payload, encoding])).toEqual([
        [{ on: true, list: [1, '\u2028'] }, 'json'],
        [21.5, 'json'],
        [null, 'json'],
        ['text', 'json'],
        ['no JSON', 'utf8'],
        ['', 'utf8'],
        ['{"a":1} x', 'utf8'],
      ])
    }
    expect((await plain.take(7))[0]!.data).toMatchObject({ payload: json, encoding: 'utf8' })
    for (const stream of [...streams, plain]) stream.close()
    await expectNoLines(bridge)
  })

  test('is resumed by id, and sends heartbeats to keep the connection', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_HEARTBEAT_MS: 20 })
    const path = `${bridge.url}/subscribe?topic=a`
    const staying = await openStream(path, LINES)
    const first = await openStream(path, LINES)
    await publish(bridge, { topic: 'a', payload: '1' })
    const { id } = await first.next()
    first.close()
    await publish(bridge, { topic: 'a', payload: '2' })
    const back = await openStream(path, { ...LINES, 'last-event-id': id! })
    expect((await back.next()).data.payload).toBe('2')
    await expect.poll(() => back.text()).toMatch(/(\{"event":"heartbeat"\}\n){2}$/)
    const unknown = await openStream(path, { ...LINES, 'last-event-id': 'x-1' })
    expect(await unknown.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
    for (const stream of [staying, back, unknown]) stream.close()
    await expectNoLines(bridge)
  })
})

test('what no stream can be is refused with what there is', async () => {
  const bridge = await startBridge()
  const { status, body } = await get(bridge, '/subscribe?topic=a', { accept: 'application/json' })
  expect(status).toBe(406)
  expect(body).toMatchObject({ code: 'not-acceptable', detail: expect.stringContaining('application/x-ndjson') })
  await expectNoLines(bridge)
})

test('curl reads a line for each event at once', async () => {
  const settings = {}
  const bridge = await startBridge(settings)
  const outside = await mqttClient(brokerUrl(bridge, settings))
  const curl = spawn('curl', [
    '-sN',
    '-H',
    'Accept: application/x-ndjson',
    `${bridge.url}/subscribe?topic=a/%23&encoding=json`,
  ])
  onTestFinished(() => void curl.kill())
  const lines = createInterface({ input: curl.stdout })[Symbol.asyncIterator]()
  expect(JSON.parse((await lines.next()).value!)).toMatchObject({ event: 'status', data: { broker: 'connected' } })
  for (const payload of ['{"t":1}', 'x\ny']) {
    await outside.publishAsync('a/b', payload, { qos: 1 })
    const { value } = await lines.next()
    expect(JSON.parse(value!)).toMatchObject({
      event: 'message',
      id: expect.any(String),
      data: { topic: 'a/b', payload: payload === 'x\ny' ? payload : { t: 1 } },
    })
  }
  curl.kill()
  await expectNoLines(bridge)
})
