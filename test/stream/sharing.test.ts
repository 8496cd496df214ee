import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { expectNothingLeft, expectStreams } from '../support/nothing-left.ts'
import { openStream } from '../support/stream.ts'

const FILTERS = 'causeway_subscription_filters'

describe.each(BROKERS)('readers on $name', ({ start, protocol }) => {
  test('of one filter share one subscription and one copy of each message, whatever their number', async () => {
    const bridge = await startBridge(await start())
    const queries = ['topic=a', 'topic=a&encoding=json', 'topic=a&qos=0', 'topic=b&topic=a']
    const streams = await Promise.all(
      Array.from({ length: 40 }, (_, index) => openStream(`${bridge.url}/subscribe?${queries[index % 4]}`)),
    )
    expect(await metric(bridge, FILTERS)).toBe(2)
    await publish(bridge, { topic: 'a', payload: '1' })
    for (const stream of streams) expect((await stream.next()).data).toMatchObject({ topic: 'a' })
    expect(await metric(bridge, 'causeway_received_messages_total{qos="1"}')).toBe(1)
    // The status that each begins with, and the message.
    expect(await metric(bridge, 'causeway_stream_events_total')).toBe(80)
    for (const stream of streams) stream.close()
    await expectNothingLeft(bridge)
  })

  test('that leave disturb nobody who stays', async () => {
    const bridge = await startBridge(await start())
    const stay = await openStream(`${bridge.url}/subscribe?topic=a`)
    for (let round = 0; round < 5; round += 1) {
      const leave = await openStream(`${bridge.url}/subscribe?topic=a`)
      const overlapping = await openStream(`${bridge.url}/subscribe?topic=%23&topic=a`)
      leave.close()
      overlapping.close()
      await expectStreams(bridge, 1)
      await publish(bridge, { topic: 'a', payload: `${round}` })
      expect(await stay.next()).toMatchObject({ event: 'message', data: { payload: `${round}` } })
    }
    expect(await metric(bridge, 'causeway_mqtt_reconnects_total{role="subscribe"}')).toBe(0)
    stay.close()
    await expectNothingLeft(bridge)
  })

  test('that all left keep their subscription for the linger, and no longer', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 1500 })
    for (let round = 0; round < 3; round += 1) {
      const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
      stream.close()
      await expectStreams(bridge, 0)
    }
    expect(await metric(bridge, FILTERS)).toBe(1)
    await expectNothingLeft(bridge)
    if (protocol === 5) expect((await publish(bridge, { topic: 'a' })).body.matchedSubscribers).toBe(false)
  })

  test('that come within the linger of others keep the subscription', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 1000 })
    const first = await openStream(`${bridge.url}/subscribe?topic=a`)
    first.close()
    await expectStreams(bridge, 0)
    const second = await openStream(`${bridge.url}/subscribe?topic=a`)
    // Its linger ends after that of `first` would have ended. Once its filter is gone, the other one has to be left.
    const clock = await openStream(`${bridge.url}/subscribe?topic=clock`)
    clock.close()
    await expect.poll(() => metric(bridge, FILTERS), { timeout: 5000 }).toBe(1)
    await publish(bridge, { topic: 'a', payload: 'still' })
    expect(await second.next()).toMatchObject({ event: 'message', data: { payload: 'still' } })
  })

  test('that come and go at once leave nothing', async () => {
    const bridge = await startBridge(await start())
    const fanOut = Array.from({ length: 60 }, async (_, index) => {
      const stream = await openStream(`${bridge.url}/subscribe?topic=a/${index % 3}&topic=a/%23`)
      expect(stream.status).toBe(200)
      stream.close()
    })
    await Promise.all(fanOut)
    await expectNothingLeft(bridge)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a/1`)
    await publish(bridge, { topic: 'a/1', payload: 'works' })
    expect((await stream.next()).data).toMatchObject({ payload: 'works' })
  })
})
