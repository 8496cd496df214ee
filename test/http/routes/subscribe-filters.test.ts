import { describe, expect, test } from 'vitest'
import { BROKERS, type Bridge, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectNothingLeft } from '../../support/nothing-left.ts'
import { openStream, type StreamReader } from '../../support/stream.ts'

/** Publishes to each topic in turn; the payload is its index. */
async function publishAll(bridge: Bridge, topics: string[], qos = 1): Promise<void> {
  for (const [index, topic] of topics.entries()) {
    expect((await publish(bridge, { topic, payload: `${index}`, qos })).status).toBe(qos === 0 ? 202 : 200)
  }
}

/** Checks that streams got these messages and no others, in any order. Each stream has to include the topic `end`. */
async function expectExactly(bridge: Bridge, got: [StreamReader, string[]][]): Promise<void> {
  for (const [stream, expected] of got) {
    const events = await stream.take(expected.length)
    expect(events.map(({ data }) => `${data.topic} ${data.payload}`).sort()).toEqual(expected.sort())
  }
  await publish(bridge, { topic: 'end' })
  for (const [stream] of got) expect((await stream.next()).data).toMatchObject({ topic: 'end' })
}

describe.each(BROKERS)('filters on $name', ({ start }) => {
  test.each([
    ['an exact topic', 'a/b', ['a/b'], ['a', 'a/b/c', 'A/b', 'a/bb', '/a/b']],
    ['+ as it is', 'a/+/c', ['a/b/c', 'a//c', 'a/x y/c'], ['a/c', 'a/b/b/c', 'a/b/d']],
    ['+ escaped', 'a/%2B/c', ['a/b/c'], ['a/c']],
    ['%23 for #', 'a/%23', ['a', 'a/b', 'a/b/c', 'a/'], ['b', 'ab']],
    ['+ and # together', '+/b/%23', ['a/b', 'x/b/c', '/b'], ['b/c/b', 'b']],
    ['a space, as %20', 'a%20b/%23', ['a b/c'], ['a-b/c']],
    ['letters of any script', encodeURIComponent('größe/𝄞/+'), ['größe/𝄞/1'], ['grosse/𝄞/1']],
    ['an empty level', '/%2B/', ['/a/'], ['/a', 'a/']],
  ])('match as MQTT says: %s', async (_case, filter, matching, others) => {
    const bridge = await startBridge({ ...(await start()), PUBLISH_CONNECTIONS: 1 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=${filter}&topic=end`)
    expect(stream.status).toBe(200)
    await publishAll(bridge, [...others, ...matching], 1)
    await expectExactly(bridge, [[stream, matching.map((topic, index) => `${topic} ${others.length + index}`)]])
  })

  test('deliver messages that come all at once at QoS 1, where they overlap and where a level is empty', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/%23&topic=a/+/c`)
    await Promise.all(Array.from({ length: 100 }, (_, index) => client.publishAsync('a//c', `${index}`, { qos: 1 })))
    const events = await stream.take(100)
    expect(events.map(({ data }) => data.payload)).toEqual(Array.from({ length: 100 }, (_, index) => `${index}`))
  })

  test('may be several on one stream, and the same one twice is one', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&topic=b/+&topic=a&topic=end`)
    expect(await metric(bridge, 'causeway_subscription_filters')).toBe(3)
    await publishAll(bridge, ['a', 'b/1', 'c', 'b'])
    await expectExactly(bridge, [[stream, ['a 0', 'b/1 1']]])
    stream.close()
    await expectNothingLeft(bridge)
  })

  test('that overlap deliver a message once to each stream', async () => {
    const bridge = await startBridge(await start())
    const all = ['a/b 0', 'a/c 1', 'a/b/c 2', 'a/b 3']
    const cases: [string, string[]][] = [
      ['topic=%23', all],
      ['topic=a/%23&topic=a/b&topic=+/b&topic=%23', all],
      ['topic=a/b&topic=a/b/%23&topic=end', ['a/b 0', 'a/b/c 2', 'a/b 3']],
      ['topic=+/+&topic=end', ['a/b 0', 'a/c 1', 'a/b 3']],
      ['topic=%23&qos=2', all],
      ['topic=%23&topic=+/b&encoding=json', all],
    ]
    const streams = await Promise.all(
      cases.map(
        async ([query, expected]) =>
          [await openStream(`${bridge.url}/subscribe?${query}`), [...expected]] as [StreamReader, string[]],
      ),
    )
    await publishAll(bridge, ['a/b', 'a/c', 'a/b/c', 'a/b'])
    await expectExactly(bridge, streams)
  })

  test('that overlap go on delivering once after the reader of one of them has left', async () => {
    const bridge = await startBridge(await start())
    const first = await openStream(`${bridge.url}/subscribe?topic=a/b&topic=end`)
    const second = await openStream(`${bridge.url}/subscribe?topic=a/%23&topic=+/b&topic=end`)
    const third = await openStream(`${bridge.url}/subscribe?topic=%23`)
    for (const remaining of [[first, second, third], [second, third], [third]]) {
      await expect.poll(() => metric(bridge, 'causeway_subscription_filters')).toBe([0, 1, 4, 5][remaining.length])
      await publishAll(bridge, ['a/b', 'a/b'])
      await expectExactly(
        bridge,
        remaining.map((stream) => [stream, ['a/b 0', 'a/b 1']]),
      )
      remaining[0]!.close()
    }
    await expectNothingLeft(bridge)
  })

  test('of a lower QoS than another reader needs get the higher one', async () => {
    const bridge = await startBridge(await start())
    const modest = await openStream(`${bridge.url}/subscribe?topic=a&qos=0`)
    const demanding = await openStream(`${bridge.url}/subscribe?topic=a&qos=2`)
    await publish(bridge, { topic: 'a', qos: 2 })
    expect((await demanding.next()).data).toMatchObject({ topic: 'a', qos: 2 })
    expect((await modest.next()).data).toMatchObject({ topic: 'a' })
    expect(await metric(bridge, 'causeway_subscription_filters')).toBe(1)
  })
})

describe.each(BROKERS)('QoS on $name', ({ start }) => {
  test('is asked of the broker as the query says, 1 unless it does, and each message shows its own', async () => {
    const bridge = await startBridge(await start())
    const streams = await Promise.all(
      ['&qos=0', '', '&qos=1', '&qos=2'].map((qos, index) =>
        openStream(`${bridge.url}/subscribe?topic=q${index}/+${qos}`),
      ),
    )
    const granted = [0, 1, 1, 2]
    for (const [index, stream] of streams.entries()) {
      for (const qos of [0, 1, 2]) {
        await publish(bridge, { topic: `q${index}/${qos}`, qos })
        expect((await stream.next()).data).toMatchObject({
          topic: `q${index}/${qos}`,
          qos: Math.min(qos, granted[index]!),
          retain: false,
        })
      }
    }
  })
})
