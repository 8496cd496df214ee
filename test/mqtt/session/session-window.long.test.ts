import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { mqttClient } from '../../support/mqtt-client.ts'
import { acknowledge, openSession, told } from '../../support/session.ts'

describe.each(BROKERS)('a session on $name whose broker sends more than there is room for', ({ start }) => {
  test('reconnects to get the rest later, and loses nothing', async () => {
    const settings = { ...(await start()), SESSION_MAX_UNACKED: 5, STREAM_LOG_BYTES: 20_000 }
    const bridge = await startBridge(settings)
    const reader = await openSession(bridge, { ack: 'explicit' })
    const total = 100
    const pad = 'x'.repeat(1000)
    for (let number = 0; number < total; number += 1) {
      expect((await publish(bridge, { topic: 'a', payload: `${number} ${pad}` })).status).toBe(200)
    }
    const seen = new Set<number>()
    while (seen.size < total) {
      const event = await reader.next()
      expect(event.event).toBe('message')
      const number = Number.parseInt(event.data.payload, 10)
      // In order, apart from messages that were sent again.
      if (!event.data.redelivered) expect(number).toBe(seen.size)
      seen.add(number)
      expect((await acknowledge(bridge, reader, event)).status).toBe(200)
    }
    await expect.poll(() => metric(bridge, 'causeway_session_unacknowledged')).toBe(0)
  })
})

test('a message larger than the log reaches its reader, and again when the reader comes back', async () => {
  const bridge = await startBridge({ STREAM_LOG_BYTES: 2000, STREAM_LINGER_MS: 60_000 })
  const reader = await openSession(bridge, { ack: 'explicit' })
  const large = 'x'.repeat(50_000)
  await publish(bridge, { topic: 'a', payload: large })
  await publish(bridge, { topic: 'a', payload: 'small' })
  expect(told([await reader.next()])).toEqual([large])
  reader.close()
  await expect.poll(() => metric(bridge, 'causeway_streams_open{format="sse"}')).toBe(0)
  const back = await openSession(bridge, { ack: 'explicit', lastEventId: reader.about.id })
  expect(told([await back.next()])).toEqual([large])
  await acknowledge(bridge, back, back.events.at(-1)!)
  expect(told([await back.next()])).toEqual(['!small'])
})

test.runIf(hasMosquitto)('memory stays bounded when a reader stalls, and nothing is lost', async () => {
  const broker = await startMosquitto({ config: ['max_queued_messages 0'] })
  const bridge = await startBridge({ MQTT_URL: broker.url, STREAM_LOG_BYTES: 100_000 })
  const reader = await openSession(bridge)
  reader.pause()
  const publisher = await mqttClient(broker.url)
  const pad = 'x'.repeat(50_000)
  const total = 400
  for (let number = 0; number < total; number += 1) await publisher.publishAsync('a', `${number} ${pad}`, { qos: 1 })
  // The bridge received only the window, what waits after it and what the sockets hold, some of it more than once.
  expect(await metric(bridge, 'causeway_stream_bytes_total')).toBeLessThan((total * 50_000) / 2)
  expect(await metric(bridge, 'causeway_session_unacknowledged')).toBeLessThanOrEqual(3)
  reader.resume()
  const seen = new Set<number>()
  while (seen.size < total) seen.add(Number.parseInt((await reader.next()).data.payload, 10))
  expect(reader.events.some(({ event }) => event === 'gap')).toBe(false)
})
