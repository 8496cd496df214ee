import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import {
  acknowledge,
  count,
  numbers,
  openSession,
  type SessionReader,
  told,
  trySession,
} from '../../support/session.ts'

const LINGER = { STREAM_LINGER_MS: 60_000 }
const TAKEN_OVER = { event: 'status', id: undefined, data: { session: 'taken-over' } }

/**
 * The last event of a stream that ends. Some brokers only close the connection at a take-over. There the two streams
 * may evict each other a few times before one of them ends.
 */
async function last({ events, ended }: SessionReader): Promise<unknown> {
  await ended
  return events.at(-1)
}

describe.each(BROKERS)('readers of one session on $name', ({ start }) => {
  test('the newest has it, with what the one before had not acknowledged', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const first = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 3)
    await acknowledge(bridge, first, (await first.take(3))[0]!)
    const second = await openSession(bridge, { ack: 'explicit' })
    expect(await first.next()).toEqual(TAKEN_OVER)
    await first.ended
    await count(bridge, 3, 4)
    expect(told(await second.take(3))).toEqual([...numbers(1, 3, '!'), '3'])
    expect(await acknowledge(bridge, second, first.events[2]!)).toMatchObject({
      status: 409,
      body: { code: 'event-unknown' },
    })
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="taken-over"}')).toBe(1)
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(1)
  })

  test('the one before does not get it back by reconnecting, and does by asking anew', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const first = await openSession(bridge)
    const second = await openSession(bridge)
    await first.ended
    const back = await trySession(bridge, { lastEventId: first.about.id })
    expect([back.status, back.text()]).toEqual([204, ''])
    await count(bridge, 0, 1)
    expect(told([await second.next()])).toEqual(['0'])
    await openSession(bridge)
    expect(await second.next()).toEqual(TAKEN_OVER)
  })

  test('a reader with the last event of nobody known does not evict one, and gets it where there is none', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    await openSession(bridge)
    expect((await trySession(bridge, { lastEventId: 'ffff-1' })).status).toBe(204)
    const reader = await openSession(bridge, { name: 'other', lastEventId: 'ffff-1' })
    expect((await reader.next()).data).toEqual({ reason: 'broker-session-lost' })
    // Its next reconnect may send that id again.
    expect((await trySession(bridge, { name: 'other', lastEventId: 'ffff-1' })).status).toBe(200)
  })

  test('a reader that comes back before its old connection is known to be dead takes its own place', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const first = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 3)
    const events = await first.take(3)
    const second = await openSession(bridge, { ack: 'explicit', lastEventId: events[0]!.id })
    await first.ended
    await count(bridge, 3, 4)
    expect(told(await second.take(3))).toEqual(['1', '2', '3'])
    expect(await acknowledge(bridge, second, second.events.at(-1)!)).toEqual({
      status: 200,
      body: { acknowledged: 3, unacknowledged: 0 },
    })
    expect(await metric(bridge, 'causeway_stream_closed_total{reason="replaced"}')).toBe(1)
  })

  test('a burst of them leaves one, and the others are told', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const readers = await Promise.all(Array.from({ length: 5 }, () => openSession(bridge)))
    await expect
      .poll(() => readers.filter(({ events }) => events.some(({ event }) => event === 'status')).length)
      .toBe(4)
    await count(bridge, 0, 1)
    const left = readers.find(({ events }) => events.every(({ event }) => event !== 'status'))!
    expect(told([await left.next()])).toEqual(['0'])
  })
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('two bridges, over MQTT %s', (protocol) => {
  async function twoBridges() {
    const settings = { MQTT_URL: (await startMosquitto()).url, MQTT_PROTOCOL: protocol, ...LINGER }
    return Promise.all([startBridge(settings), startBridge(settings)])
  }

  test('the newest reader has the session, and the two settle', async () => {
    const [one, other] = await twoBridges()
    const first = await openSession(one, { ack: 'explicit' })
    await count(one, 0, 2)
    const events = await first.take(2)
    const second = await openSession(other, { ack: 'explicit' })
    expect(await last(first)).toEqual(TAKEN_OVER)
    await expect.poll(() => told(second.events).filter((what) => what !== 'status')).toEqual(['session', '!0', '!1'])
    for (const bridge of [one, other]) {
      expect((await trySession(bridge, { ack: 'explicit', lastEventId: events[1]!.id })).status).toBe(204)
    }
    expect(await acknowledge(other, second, second.events.at(-1)!)).toMatchObject({ status: 200 })
    expect(await acknowledge(one, first, events[1]!)).toMatchObject({ status: 409, body: { code: 'event-unknown' } })
    expect(await metric(one, 'causeway_sessions_open')).toBe(0)
  })

  test('a session goes from one to the other with its reader', async () => {
    const [one, other] = await twoBridges()
    const first = await openSession(one, { ack: 'explicit' })
    await count(one, 0, 4)
    const events = await first.take(4)
    await acknowledge(one, first, events[1]!)
    first.close()
    await expect.poll(() => metric(one, 'causeway_mqtt_connections{role="session",state="connected"}')).toBe(0)
    await publish(one, { topic: 'a', payload: '4' })
    const second = await openSession(other, { ack: 'explicit', lastEventId: events[3]!.id })
    expect(told(await second.take(3))).toEqual(['!2', '!3', '4'])
  })
})
