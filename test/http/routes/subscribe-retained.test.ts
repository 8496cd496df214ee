import { describe, expect, test } from 'vitest'
import { BROKERS, type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream, type StreamEvent } from '../../support/stream.ts'

async function retain(bridge: Bridge, topic: string, payload: string): Promise<void> {
  expect((await publish(bridge, { topic, payload, retain: true })).status).toBe(200)
}

function brief({ data: { topic, payload, retain } }: StreamEvent): string {
  return `${topic} ${payload}${retain ? ' retained' : ''}`
}

const byTopic = (events: StreamEvent[]): string[] => events.map(brief).sort()

describe.each(BROKERS)('a stream on $name', ({ start }) => {
  test('begins with the retained messages that match, each once, and goes on live in order', async () => {
    const bridge = await startBridge(await start())
    for (const topic of ['a/1', 'a/2', 'a/b/3', 'c']) await retain(bridge, topic, 'old')
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/%23&topic=a/%2B&topic=a/1`)
    expect(byTopic(await stream.take(3))).toEqual(['a/1 old retained', 'a/2 old retained', 'a/b/3 old retained'])
    for (const payload of ['1', '2', '3']) await publish(bridge, { topic: 'a/1', payload })
    await retain(bridge, 'a/1', 'new')
    expect((await stream.take(4)).map(brief)).toEqual(['a/1 1', 'a/1 2', 'a/1 3', 'a/1 new'])
    stream.close()
    await expectNothingLeft(bridge)
  })

  test('begins so for each one that joins, and those already there never see it again', async () => {
    const bridge = await startBridge(await start())
    await retain(bridge, 'a/1', 'old')
    const url = `${bridge.url}/subscribe?topic=a/%2B`
    const first = await openStream(url)
    expect(brief(await first.next())).toBe('a/1 old retained')
    await retain(bridge, 'a/1', 'new')
    expect(brief(await first.next())).toBe('a/1 new')
    const later = []
    // The same filter, a different one, the other format, and a higher QoS, for which the bridge subscribes again.
    for (const [query, accept] of [
      ['', '*/*'],
      ['&topic=a/%23', '*/*'],
      ['', 'application/x-ndjson'],
      ['&qos=2', '*/*'],
    ] as const) {
      const stream = await openStream(url + query, { accept })
      expect(brief(await stream.next())).toBe('a/1 new retained')
      later.push(stream)
    }
    await publish(bridge, { topic: 'a/1', payload: 'last' })
    for (const stream of later) expect(brief(await stream.next())).toBe('a/1 last')
    expect(brief(await first.next())).toBe('a/1 last')
    for (const stream of [first, ...later]) stream.close()
    await expectNothingLeft(bridge)
    await expect.poll(() => metric(bridge, 'causeway_streams_open{format="ndjson"}')).toBe(0)
  })

  test('does not begin so with retained=false, nor where it is resumed', async () => {
    const bridge = await startBridge(await start())
    await retain(bridge, 'a', 'old')
    const plain = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    await publish(bridge, { topic: 'a', payload: '1' })
    const first = await plain.next()
    expect(brief(first)).toBe('a 1')
    const resumed = await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': first.id! })
    const byQuery = await openStream(`${bridge.url}/subscribe?topic=a&lastEventId=${first.id}`)
    await publish(bridge, { topic: 'a', payload: '2' })
    for (const stream of [plain, resumed, byQuery]) {
      expect(brief(await stream.next())).toBe('a 2')
      stream.close()
    }
    await expectNothingLeft(bridge)
  })

  test('does not begin with what was cleared', async () => {
    const bridge = await startBridge(await start())
    await retain(bridge, 'a/1', 'old')
    await retain(bridge, 'a/2', 'old')
    expect((await fetch(`${bridge.url}/retained?topic=a/1`, { method: 'DELETE' })).status).toBe(200)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/%2B`)
    await publish(bridge, { topic: 'a/1', payload: 'live' })
    expect((await stream.take(2)).map(brief)).toEqual(['a/2 old retained', 'a/1 live'])
    stream.close()
    await expectNothingLeft(bridge)
  })
})

test('readers that come at once have the retained messages in memory once', async () => {
  const [readers, topics, bytes] = [20, 20, 60_000]
  // A caller may hold half of it: six of these readers, had each of them its own messages.
  const bridge = await startBridge({ MEMORY_BYTES: 16_777_216 })
  const payload = 'x'.repeat(bytes)
  for (let index = 0; index < topics; index += 1) {
    expect((await publish(bridge, { topic: `a/${index}`, payload, retain: true })).status).toBe(200)
  }
  const url = `${bridge.url}/subscribe?topic=a/%2B`
  const streams = await Promise.all(Array.from({ length: readers }, () => openStream(url)))
  expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200))
  for (const stream of streams) {
    const messages = await stream.take(topics)
    expect(new Set(messages.map(({ data }) => data.topic)).size).toBe(topics)
  }
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="retained"}')).toBe(0)
  await expect.poll(() => metric(bridge, 'causeway_held_bytes{purpose="joins"}')).toBe(0)
})
