import { createParser } from 'eventsource-parser'
import { expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { get, publish } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

/**
 * The messages that a client makes of a stream if it makes one of each block that is not empty, as
 * `@microsoft/fetch-event-source` 2.0, `httpx-sse` and `r3labs/sse` do: lines end at CR, LF or CRLF, a line that begins
 * with a colon is ignored, and an empty line hands over what there is, with or without data.
 */
function messagesOfEachBlock(text: string): { event: string; data: string }[] {
  const messages: { event: string; data: string }[] = []
  let message = { event: '', data: '' }
  for (const line of text.split(/\r\n|\r|\n/).slice(0, -1)) {
    const colon = line.indexOf(':')
    if (line === '') {
      messages.push(message)
      message = { event: '', data: '' }
    } else if (colon > 0) {
      const [field, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')]
      if (field === 'data') message.data = message.data === '' ? value : `${message.data}\n${value}`
      else if (field === 'event') message.event = value
    }
  }
  return messages
}

const expectNoEmptyMessage = (text: string) => {
  for (const { data } of messagesOfEachBlock(text)) expect(() => JSON.parse(data)).not.toThrow()
}

test('an event stream is, byte for byte, retry and status, then messages, with bare comments between them', async () => {
  const bridge = await startBridge({ STREAM_HEARTBEAT_MS: 30 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  const id = (await stream.opening).id!
  await expect.poll(() => stream.text()).toMatch(/\n\n:\n:\n/)
  expect(stream.text()).toMatch(
    new RegExp(`^retry: 2000\\nevent: status\\nid: ${id}\\ndata: {"broker":"connected"}\\n\\n(:\\n)+$`),
  )
  await publish(bridge, { topic: 'a', payload: '1' })
  const message = await stream.next()
  await expect.poll(() => stream.text()).toMatch(/\n\n(:\n)+$/)
  expect(stream.text().replaceAll(/^:\n/gm, '')).toBe(
    `retry: 2000\nevent: status\nid: ${id}\ndata: {"broker":"connected"}\n\n` +
      `id: ${message.id}\ndata: {"topic":"a","payload":"1","encoding":"utf8","qos":1,"retain":false}\n\n`,
  )
  expectNoEmptyMessage(stream.text())
})

test('a shutdown asks for a later reconnect with a bare retry line', async () => {
  const bridge = await startBridge()
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  await stream.opening
  await bridge.close()
  await stream.ended
  expect(stream.text()).toMatch(/\n\nretry: \d+\n$/)
  expectNoEmptyMessage(stream.text())
  const retries: number[] = []
  createParser({ onEvent: () => {}, onRetry: (ms) => retries.push(ms) }).feed(stream.text())
  expect(retries).toHaveLength(2)
})

test('a stream of lines is one JSON object on each line, from the first one on', async () => {
  const bridge = await startBridge({ STREAM_HEARTBEAT_MS: 30 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`, { accept: 'application/x-ndjson' })
  const { id } = await stream.opening
  await expect.poll(() => stream.text()).toMatch(/(\{"event":"heartbeat"\}\n){2}$/)
  expect(stream.text()).toMatch(
    new RegExp(`^{"event":"status","id":"${id}","data":{"broker":"connected"}}\\n({"event":"heartbeat"}\\n)+$`),
  )
})

test('no line separator of another language leaves unescaped: not in texts, embedded JSON, names or results', async () => {
  const bridge = await startBridge()
  const separators = '\u0085\u2028\u2029'
  const topic = `t${separators.slice(1)}`
  const query = `topic=${encodeURIComponent(topic)}`
  const streams = [
    await openStream(`${bridge.url}/subscribe?${query}`),
    await openStream(`${bridge.url}/subscribe?${query}&encoding=json`),
    await openStream(`${bridge.url}/subscribe?${query}&encoding=json`, { accept: 'application/x-ndjson' }),
  ]
  const answer = await fetch(`${bridge.url}/publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ topic, payload: JSON.stringify({ [separators]: separators }), retain: true }),
  })
  expect(answer.status).toBe(200)
  const lines = await fetch(`${bridge.url}/publish/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: `${JSON.stringify({ topic: `u${separators}` })}\n`,
  })
  const events = await Promise.all(streams.map((stream) => stream.next()))
  expect(events.map(({ data }) => data.topic)).toEqual([topic, topic, topic])
  expect(events[1]!.data.payload).toEqual({ [separators]: separators })
  expect(events[2]!.data).toEqual(events[1]!.data)
  expect(JSON.parse(events[0]!.data.payload)).toEqual({ [separators]: separators })
  const texts = [
    ...streams.map((stream) => stream.text()),
    await answer.text(),
    await lines.text(),
    JSON.stringify((await get(bridge, `/retained?${query}`, { accept: 'application/json' })).headers.get('etag')),
    await (await fetch(`${bridge.url}/retained?${query}`, { headers: { accept: 'application/json' } })).text(),
    await (await fetch(`${bridge.url}/subscribe?${query}&${encodeURIComponent(separators)}=1`)).text(),
  ]
  for (const text of texts) expect(text).not.toMatch(/[\u0085\u2028\u2029]/)
})
