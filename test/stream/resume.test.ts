import { describe, expect, test } from 'vitest'
import { BROKERS, type Bridge, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectNothingLeft, expectStreams } from '../support/nothing-left.ts'
import { openStream, type StreamEvent } from '../support/stream.ts'

const LINGER = { STREAM_LINGER_MS: 60_000 }

/** Publishes the numbers from `from` to `to - 1`. */
async function count(bridge: Bridge, topic: string, from: number, to: number): Promise<void> {
  for (let number = from; number < to; number += 1) {
    expect((await publish(bridge, { topic, payload: `${number}` })).status).toBe(200)
  }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `message ${from + index}`)
const payloads = (events: StreamEvent[]) => events.map(({ event, data }) => `${event} ${data.payload}`)

describe.each(BROKERS)('a reader that comes back on $name', ({ start }) => {
  test('continues exactly after its last id, by header or query, at any place in the log', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const url = `${bridge.url}/subscribe?topic=a/%23`
    const stream = await openStream(url)
    await count(bridge, 'a/b', 0, 10)
    const events = await stream.take(10)
    stream.close()
    await expectStreams(bridge, 0)
    await count(bridge, 'a/c', 10, 20)
    for (const last of [9, 4, 0]) {
      const id = events[last]!.id!
      for (const back of [
        await openStream(url, { 'last-event-id': id }),
        await openStream(`${url}&lastEventId=${id}`),
      ]) {
        expect(payloads(await back.take(19 - last))).toEqual(numbers(last + 1, 20))
        expect(back.events.slice(0, 9 - last)).toEqual(events.slice(last + 1))
      }
    }
    expect(await metric(bridge, 'causeway_stream_resumes_total{result="resumed"}')).toBe(6)
  })

  test('loses and repeats nothing over many breaks while messages flow', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const url = `${bridge.url}/subscribe?topic=a`
    let stream = await openStream(url)
    const flowing = count(bridge, 'a', 0, 200)
    const got: StreamEvent[] = []
    while (got.length < 200) {
      got.push(...(await stream.take(Math.min(17, 200 - got.length))))
      stream.close()
      stream = await openStream(url, { 'last-event-id': got.at(-1)!.id! })
    }
    await flowing
    await publish(bridge, { topic: 'a', payload: 'end' })
    expect(payloads([...got, await stream.next()])).toEqual([...numbers(0, 200), 'message end'])
  })

  test('continues after the id of the header where the query has another one', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await count(bridge, 'a', 0, 3)
    const [first, second] = await stream.take(3)
    // A reconnecting EventSource uses its first URL again, with the old id, and sends the newer id as the header.
    const back = await openStream(`${bridge.url}/subscribe?topic=a&lastEventId=${first!.id}`, {
      'last-event-id': second!.id!,
    })
    expect(payloads([await back.next()])).toEqual(['message 2'])
  })

  test.each([
    ['of another process', () => 'ffffffffffff-1'],
    ['of the future', (id: string) => id.replace(/\d+$/, '999999999')],
    ['that is garbage', () => 'garbage'],
    ['without a sequence', (id: string) => id.replace(/\d+$/, '')],
    ['with a sequence out of all bounds', (id: string) => id.replace(/\d+$/, '9'.repeat(40))],
    ['with a negative sequence', (id: string) => id.replace(/\d+$/, '-1')],
    ['that is a number', () => '1'],
  ])('with an id %s is told of a gap first, and gets what is there', async (_case, lastId) => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await count(bridge, 'a', 0, 2)
    const [first] = await stream.take(2)
    const back = await openStream(`${bridge.url}/subscribe?topic=a`, { 'last-event-id': lastId(first!.id!) })
    expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
    expect(payloads(await back.take(2))).toEqual(numbers(0, 2))
    expect(await metric(bridge, 'causeway_stream_resumes_total{result="unknown-id"}')).toBe(1)
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="unknown-id"}')).toBe(1)
  })

  test('after its next message was overwritten gets one gap, and then what is left', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER, STREAM_LOG_MESSAGES: 5 })
    const url = `${bridge.url}/subscribe?topic=a`
    const stream = await openStream(url)
    await count(bridge, 'a', 0, 1)
    const { id } = await stream.next()
    stream.close()
    await expectStreams(bridge, 0)
    await count(bridge, 'a', 1, 11)
    await expect.poll(() => metric(bridge, 'causeway_received_messages_total{qos="1"}')).toBe(11)
    const back = await openStream(url, { 'last-event-id': id! })
    const gap = await back.next()
    expect(gap).toMatchObject({ event: 'gap', data: { reason: 'overrun' } })
    expect(payloads(await back.take(5))).toEqual(numbers(6, 11))
    back.close()
    const again = await openStream(url, { 'last-event-id': gap.id! })
    expect(payloads(await again.take(5))).toEqual(numbers(6, 11))
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="overrun"}')).toBe(1)
  })

  test('just before its next message is overwritten gets no gap', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER, STREAM_LOG_MESSAGES: 5 })
    const url = `${bridge.url}/subscribe?topic=a`
    const stream = await openStream(url)
    await count(bridge, 'a', 0, 1)
    const { id } = await stream.next()
    stream.close()
    await count(bridge, 'a', 1, 6)
    const back = await openStream(url, { 'last-event-id': id! })
    expect(payloads(await back.take(5))).toEqual(numbers(1, 6))
  })

  test('after the linger gets a gap', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 0 })
    const url = `${bridge.url}/subscribe?topic=a`
    const stream = await openStream(url)
    const keeper = await openStream(`${bridge.url}/subscribe?topic=b`)
    await count(bridge, 'a', 0, 1)
    const { id } = await stream.next()
    stream.close()
    await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe(1)
    await count(bridge, 'a', 1, 2)
    await count(bridge, 'b', 0, 1)
    await keeper.next()
    const back = await openStream(url, { 'last-event-id': id! })
    expect(await back.next()).toMatchObject({ event: 'gap', data: { reason: 'unknown-id' } })
    for (const { close } of [back, keeper]) close()
    await expectNothingLeft(bridge)
  })

  test('after the linger gets a gap even if no event was numbered since its last', async () => {
    const settings = await start()
    const bridge = await startBridge({ ...settings, STREAM_LINGER_MS: 0 })
    const client = await mqttClient(brokerUrl(bridge, settings))
    const url = `${bridge.url}/subscribe?topic=a`
    const stream = await openStream(url)
    await client.publishAsync('a', 'had', { qos: 1 })
    const { id } = await stream.next()
    stream.close()
    await expectNothingLeft(bridge)
    await client.publishAsync('a', 'missed', { qos: 1 })
    const back = await openStream(url, { 'last-event-id': id! })
    await client.publishAsync('a', 'live', { qos: 1 })
    expect((await back.take(2)).map(({ data }) => data)).toMatchObject([{ reason: 'unknown-id' }, { payload: 'live' }])
  })
})
