import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, type Settings, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { expectStreams } from '../support/nothing-left.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

const LINGER = { STREAM_LINGER_MS: 60_000 }
const seen = (events: { event: string; data: { reason?: string; payload?: string; retain?: boolean } }[]) =>
  events.map(({ event, data }) => `${event} ${data.reason ?? data.payload}${data.retain ? ' retained' : ''}`)

describe.each(BROKERS)('a reader that comes back on $name', ({ start }) => {
  async function started(more: Settings = {}) {
    const settings = { ...(await start()), ...more }
    const bridge = await startBridge(settings)
    const outside = await mqttClient(brokerUrl(bridge, settings))
    return { bridge, outside, url: `${bridge.url}/subscribe?topic=a/%23` }
  }

  test('with an id of another process gets a gap, then the retained messages, then what is there', async () => {
    const { bridge, outside, url } = await started(LINGER)
    await outside.publishAsync('a/1', 'state', { qos: 1, retain: true })
    const staying = await openStream(`${url}&retained=false`)
    await outside.publishAsync('a/2', 'event', { qos: 1 })
    await staying.next()
    const back = await openStream(url, { 'last-event-id': '0123456789ab-7' })
    expect((await back.opening).id).toBeUndefined()
    expect(seen(await back.take(3))).toEqual(['gap unknown-id', 'message state retained', 'message event'])
    expect(back.events[0]!.id).toMatch(/^[0-9a-f]{12}r-\d+$/)
    const other = await openStream(`${url}&retained=false`, { 'last-event-id': '0123456789ab-7' })
    expect(seen(await other.take(2))).toEqual(['gap unknown-id', 'message event'])
    expect(await metric(bridge, 'causeway_stream_gaps_total{reason="unknown-id"}')).toBe(2)
  })

  test('with an empty id, in the header or the query, begins anew', async () => {
    const { outside, url } = await started(LINGER)
    await outside.publishAsync('a/1', 'state', { qos: 1, retain: true })
    for (const stream of [
      await openStream(url, { 'last-event-id': '' }),
      await openStream(`${url}&lastEventId=`),
      await openStream(`${url}&lastEventId=x-1&lastEventId=`),
    ]) {
      expect(await stream.opening).toMatchObject({ data: { broker: 'connected' } })
      expect(seen([await stream.next()])).toEqual(['message state retained'])
    }
  })

  test('with several ids in the query continues after the last one', async () => {
    const { bridge, url } = await started(LINGER)
    const stream = await openStream(url)
    for (const payload of ['1', '2', '3']) await publish(bridge, { topic: 'a/1', payload })
    const [first, second] = await stream.take(3)
    const back = await openStream(`${url}&lastEventId=${first!.id}&lastEventId=${second!.id}`)
    expect((await back.opening).id).toBe(second!.id)
    expect(seen([await back.next()])).toEqual(['message 3'])
  })

  test('with the id of the opening status gets the retained messages again, and misses no live one', async () => {
    const { bridge, outside, url } = await started(LINGER)
    for (const topic of ['a/1', 'a/2']) await outside.publishAsync(topic, topic, { qos: 1, retain: true })
    const stream = await openStream(url)
    const { id } = await stream.opening
    await stream.take(2)
    // As a client that left before it had read the retained messages.
    stream.close()
    await expectStreams(bridge, 0)
    await outside.publishAsync('a/3', 'missed', { qos: 1 })
    const back = await openStream(url, { 'last-event-id': id! })
    expect(seen(await back.take(3)).toSorted()).toEqual([
      'message a/1 retained',
      'message a/2 retained',
      'message missed',
    ])
    expect(seen(back.events).at(-1)).toBe('message missed')
    expect(await metric(bridge, 'causeway_stream_resumes_total{result="resumed"}')).toBe(1)
  })
})

test('a reader is told the QoS that the broker granted, where it is lower than asked', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe') return false
    const granted = packet.subscriptions.map(({ topic, qos }) => (topic === 'low' ? 0 : qos))
    peer.send({ cmd: 'suback', messageId: packet.messageId!, granted })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url })
  for (const [query, data] of [
    ['topic=low&topic=high', { broker: 'connected', qos: 0 }],
    ['topic=high', { broker: 'connected' }],
    ['topic=low&qos=0', { broker: 'connected' }],
  ] as const) {
    expect((await (await openStream(`${bridge.url}/subscribe?${query}&retained=false`)).opening).data).toEqual(data)
  }
})
