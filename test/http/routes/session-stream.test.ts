import { describe, expect, test } from 'vitest'
import { BROKERS, metric, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { acknowledge, count, numbers, openSession, told, trySession } from '../../support/session.ts'

const LINGER = { STREAM_LINGER_MS: 60_000 }

describe.each(BROKERS)('a durable session on $name', ({ protocol, start }) => {
  test('begins with an event about itself, whose id can be continued from', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER, SESSION_EXPIRY_S: 120, SESSION_MAX_UNACKED: 7 })
    const { about, headers } = await openSession(bridge, { name: 'billing', ack: 'explicit' })
    expect(headers['content-type']).toBe('text/event-stream; charset=utf-8')
    expect(about).toEqual({
      event: 'session',
      id: expect.stringMatching(/^[0-9a-f]+-0$/),
      data: {
        id: expect.stringMatching(/^[0-9a-f]{12}-[0-9a-f]{20}$/),
        name: 'billing',
        present: false,
        unacknowledgedLimit: 7,
        ack: 'explicit',
        ...(protocol === 5 && { expiry: 120 }),
      },
    })
    const back = await openSession(bridge, { name: 'billing', ack: 'explicit', lastEventId: about.id })
    expect(back.about).toEqual({ ...about, data: { ...about.data, present: true } })
  })

  test('keeps what comes while its reader is away, and is the same one for filters in any order', async () => {
    const bridge = await startBridge(await start())
    const first = await openSession(bridge, { topics: ['a', 'b/+'] })
    await count(bridge, 0, 2)
    expect(told(await first.take(2))).toEqual(['0', '1'])
    first.close()
    await expectStreams(bridge, 0)
    await count(bridge, 2, 5)
    await publish(bridge, { topic: 'b/c', payload: '5' })
    const second = await openSession(bridge, { topics: ['b/+', 'a', 'a'] })
    expect(second.about.data).toMatchObject({ id: first.about.data.id, present: true })
    expect(told(await second.take(4))).toEqual(numbers(2, 6))
    expect(await metric(bridge, 'causeway_session_unacknowledged')).toBe(0)
  })

  test('is another one under another name or for other filters', async () => {
    const bridge = await startBridge(await start())
    const ids = await Promise.all(
      [{}, { name: 'other' }, { topics: ['b'] }].map(
        async (request) => (await openSession(bridge, request)).about.data.id,
      ),
    )
    expect(new Set(ids).size).toBe(3)
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(3)
  })

  test('gives what was not acknowledged to the next reader, marked, and nothing else twice', async () => {
    const bridge = await startBridge(await start())
    const first = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 5)
    const events = await first.take(5)
    expect(await acknowledge(bridge, first, events[1]!)).toEqual({
      status: 200,
      body: { acknowledged: 2, unacknowledged: 3 },
    })
    first.close()
    await expectStreams(bridge, 0)
    await count(bridge, 5, 6)
    const second = await openSession(bridge, { ack: 'explicit' })
    expect(told(await second.take(4))).toEqual([...numbers(2, 5, '!'), '5'])
    expect(await metric(bridge, 'causeway_session_redeliveries_total')).toBe(3)
  })

  test('goes on behind the last event of a reader that comes back, which acknowledges it', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const first = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 5)
    const events = await first.take(5)
    first.close()
    await expectStreams(bridge, 0)
    await count(bridge, 5, 7)
    const second = await openSession(bridge, { ack: 'explicit', lastEventId: events[2]!.id })
    expect(told(await second.take(4))).toEqual(['3', '4', '5', '6'])
    expect((await acknowledge(bridge, second, second.events[2]!)).body).toMatchObject({ unacknowledged: 2 })
    second.close()
    await expectStreams(bridge, 0)
    const third = await openSession(bridge, { ack: 'explicit' })
    expect(told(await third.take(2))).toEqual(numbers(5, 7, '!'))
  })

  test('with ack=auto, sends what was written to the lost socket again from its log', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const first = await openSession(bridge)
    await count(bridge, 0, 5)
    const events = await first.take(5)
    await expect.poll(() => metric(bridge, 'causeway_session_unacknowledged')).toBe(0)
    first.close()
    await expectStreams(bridge, 0)
    const second = await openSession(bridge, { lastEventId: events[1]!.id })
    await count(bridge, 5, 6)
    expect(told(await second.take(4))).toEqual(['2', '3', '4', '5'])
    expect(await metric(bridge, 'causeway_session_redeliveries_total')).toBe(0)
  })

  test('gives a reader no more than the limit before it acknowledges, and the rest in order then', async () => {
    const bridge = await startBridge({ ...(await start()), SESSION_MAX_UNACKED: 10 })
    const reader = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 60)
    for (let got = 10; got <= 60; got += 10) {
      expect(told(await reader.take(10))).toEqual(numbers(got - 10, got))
      // Messages that the broker sent beyond that limit wait in the bridge.
      await publish(bridge, { topic: 'elsewhere', payload: '' })
      expect(reader.events).toHaveLength(got + 1)
      await acknowledge(bridge, reader, reader.events.at(-1)!)
    }
    expect(await metric(bridge, 'causeway_session_unacknowledged')).toBe(0)
  })

  test('speaks NDJSON and embeds JSON where it is asked to', async () => {
    const bridge = await startBridge(await start())
    const reader = await openSession(bridge, { accept: 'application/x-ndjson', encoding: 'json' })
    expect(reader.about.event).toBe('session')
    await publish(bridge, { topic: 'a', payload: { n: 1 } })
    expect(await reader.next()).toMatchObject({
      event: 'message',
      id: expect.stringMatching(/-1$/),
      data: { payload: { n: 1 }, encoding: 'json' },
    })
  })

  test('has the retained messages as it begins, and not again', async () => {
    const bridge = await startBridge(await start())
    await publish(bridge, { topic: 'a', payload: 'kept', retain: true })
    const first = await openSession(bridge)
    expect((await first.next()).data).toMatchObject({ payload: 'kept', retain: true })
    await count(bridge, 0, 1)
    expect((await first.next()).data).toMatchObject({ payload: '0', retain: false })
    const without = await openSession(bridge, { name: 'without', retained: false })
    await count(bridge, 1, 2)
    expect(told([await without.next()])).toEqual(['1'])
    if (protocol !== 5) return
    first.close()
    await expectStreams(bridge, 1)
    const second = await openSession(bridge)
    await count(bridge, 2, 3)
    expect(told([await second.next()])).toEqual(['2'])
  })

  test('is refused with another QoS, with slow readers’ policies, and with ack where there is none', async () => {
    const bridge = await startBridge(await start())
    const answers = [
      'session=s&qos=2',
      'session=s&qos=0',
      'session=s&slow=latest',
      'session=',
      'ack=explicit',
      'session=s&ack=never',
      'session=s&topic=%24share%2Fg%2Fa',
    ].map(async (query) => {
      const response = await fetch(`${bridge.url}/subscribe?topic=a&${query}`)
      return `${query}: ${response.status} ${((await response.json()) as { code: string }).code}`
    })
    expect(await Promise.all(answers)).toEqual([
      'session=s&qos=2: 422 session-qos',
      'session=s&qos=0: 422 session-qos',
      'session=s&slow=latest: 400 invalid-request',
      'session=: 400 invalid-request',
      'ack=explicit: 400 invalid-request',
      'session=s&ack=never: 400 invalid-request',
      'session=s&topic=%24share%2Fg%2Fa: 400 invalid-request',
    ])
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
  })

  test('is not opened beyond the limit', async () => {
    const bridge = await startBridge({ ...(await start()), SESSION_MAX: 1 })
    const reader = await openSession(bridge)
    const refused = await trySession(bridge, { name: 'other' })
    await refused.ended
    expect([refused.status, refused.headers['retry-after'], JSON.parse(refused.text()).code]).toEqual([
      503,
      '5',
      'too-many-sessions',
    ])
    reader.close()
    await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
    await openSession(bridge, { name: 'other' })
  })
})
