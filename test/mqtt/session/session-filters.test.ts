import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { acknowledge, count, numbers, openSession, type SessionReader, told } from '../../support/session.ts'

describe.each(BROKERS)('a session on $name', ({ start }) => {
  test('gets a message once where its filters overlap, live and from the broker’s queue', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const topics = ['a/#', 'a/+', 'a/b']
    const first = await openSession(bridge, { topics })
    for (const payload of ['same', 'same', 'other']) await publish(bridge, { topic: 'a/b', payload })
    expect(told(await first.take(3))).toEqual(['same', 'same', 'other'])
    first.close()
    await expectStreams(bridge, 0)
    for (const payload of ['same', 'same', 'last']) await publish(bridge, { topic: 'a/b', payload })
    const second = await openSession(bridge, { topics })
    expect(told(await second.take(3))).toEqual(['same', 'same', 'last'])
    await publish(bridge, { topic: 'a/end', payload: 'end' })
    expect(told([await second.next()])).toEqual(['end'])
    await expect.poll(() => metric(bridge, 'causeway_session_unacknowledged')).toBe(0)
  })

  test('acknowledges duplicates in order with the messages that its reader acknowledges', async () => {
    const bridge = await startBridge(await start())
    const topics = ['a', '+']
    const first = await openSession(bridge, { topics, ack: 'explicit' })
    await count(bridge, 0, 4)
    await acknowledge(bridge, first, (await first.take(4))[1]!)
    first.close()
    await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
    const second = await openSession(bridge, { topics, ack: 'explicit' })
    expect((await second.take(2)).map(({ data }) => data.payload)).toEqual(['2', '3'])
    await acknowledge(bridge, second, second.events.at(-1)!)
    await count(bridge, 4, 5)
    expect(told([await second.next()])).toEqual(['4'])
  })

  test('delivers QoS 0 messages without waiting for acknowledgements', async () => {
    const settings = await start()
    const bridge = await startBridge({ ...settings, SESSION_MAX_UNACKED: 3 })
    const publisher = await mqttClient(brokerUrl(bridge, settings))
    const reader = await openSession(bridge, { ack: 'explicit' })
    await publisher.publishAsync('a', '0', { qos: 0 })
    await publisher.publishAsync('a', '1', { qos: 1 })
    const [zero, one] = await reader.take(2)
    expect([zero!.data.qos, one!.data.qos]).toEqual([0, 1])
    expect(await acknowledge(bridge, reader, one!)).toMatchObject({ body: { acknowledged: 2, unacknowledged: 0 } })
  })
})

describe.runIf(hasMosquitto)('a $share filter in sessions', () => {
  const topics = ['$share/workers/jobs']
  const messages = ({ events }: SessionReader) => told(events.filter(({ event }) => event === 'message'))

  test('is a durable queue: each message goes to one member, and none is lost when members come and go', async () => {
    const settings = { MQTT_URL: (await startMosquitto()).url }
    const [one, other] = await Promise.all([startBridge(settings), startBridge(settings)])
    const first = await openSession(one, { name: 'w1', topics, ack: 'explicit' })
    const second = await openSession(other, { name: 'w2', topics, ack: 'explicit' })
    await count(one, 0, 20, 'jobs')
    await expect.poll(() => messages(first).length + messages(second).length).toBe(20)
    expect([...messages(first), ...messages(second)].sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 20))
    expect(messages(first).length).toBeGreaterThan(0)
    expect(messages(second).length).toBeGreaterThan(0)
    const had = messages(second)
    second.close()
    await expect.poll(() => metric(other, 'causeway_sessions_open')).toBe(0)
    await count(one, 20, 30, 'jobs')
    const back = await openSession(one, { name: 'w2', topics, ack: 'explicit' })
    await expect
      .poll(() => new Set([...messages(first), ...had, ...messages(back).map((each) => each.replace('!', ''))]).size)
      .toBe(30)
  })
})

test('a session on the embedded broker delivers retained messages that were published at QoS 2', async () => {
  const bridge = await startBridge()
  await publish(bridge, { topic: 'a', payload: 'kept', qos: 2, retain: true })
  const reader = await openSession(bridge)
  await count(bridge, 0, 1)
  await expect.poll(() => told(reader.events).at(-1)).toBe('0')
})
