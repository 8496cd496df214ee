import { connect, type IConnackPacket } from 'mqtt'
import { describe, expect, onTestFinished, test } from 'vitest'
import { sessionClientId, sessionId } from '../../../src/mqtt/session/session-id.ts'
import { BROKERS, brokerUrl, metric, startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { expectStreams } from '../../support/nothing-left.ts'
import { acknowledge, count, openSession, told, trySession } from '../../support/session.ts'

const LINGER = { STREAM_LINGER_MS: 60_000 }
const forget = (url: string, id: string) => fetch(`${url}/sessions/${id}`, { method: 'DELETE' })

describe.each(BROKERS)('sessions on $name', ({ start }) => {
  test('are listed while they are open', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    expect((await get(bridge, '/sessions')).body).toEqual([])
    const reader = await openSession(bridge, { name: 'billing', topics: ['b', 'a'], ack: 'explicit' })
    await count(bridge, 0, 2)
    await reader.take(2)
    const { id } = reader.about.data
    expect((await get(bridge, '/sessions')).body).toEqual([
      { id, name: 'billing', filters: ['a', 'b'], ack: 'explicit', connected: true, unacknowledged: 2 },
    ])
    expect(await metric(bridge, 'causeway_session_unacknowledged')).toBe(2)
    expect(await metric(bridge, 'causeway_mqtt_connections{role="session",state="connected"}')).toBe(1)
    reader.close()
    await expectStreams(bridge, 0)
    expect((await get(bridge, '/sessions')).body).toMatchObject([{ id, connected: false, unacknowledged: 2 }])
  })

  test('are open no more once their reader has been away for longer than the linger', async () => {
    const bridge = await startBridge({ ...(await start()), STREAM_LINGER_MS: 50 })
    const reader = await openSession(bridge)
    reader.close()
    await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
    expect(await metric(bridge, 'causeway_mqtt_connections{role="session",state="connected"}')).toBe(0)
  })

  test('take an acknowledgement of an event that was acknowledged before, and none of others', async () => {
    const bridge = await startBridge(await start())
    const reader = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 2)
    const [first, second] = await reader.take(2)
    expect(await acknowledge(bridge, reader, second!)).toEqual({
      status: 200,
      body: { acknowledged: 2, unacknowledged: 0 },
    })
    expect(await acknowledge(bridge, reader, first!)).toEqual({
      status: 200,
      body: { acknowledged: 0, unacknowledged: 0 },
    })
    expect(await acknowledge(bridge, reader, reader.about)).toEqual({
      status: 200,
      body: { acknowledged: 0, unacknowledged: 0 },
    })
    for (const id of ['', 'ffff-1', '-1', '1', first!.id!.replace(/\d+$/, '999'), `${first!.id}x`]) {
      expect(await acknowledge(bridge, reader, { id }), id).toMatchObject({
        status: 409,
        body: { code: 'event-unknown', retryable: false },
      })
    }
    expect(await acknowledge(bridge, reader, { id: undefined })).toMatchObject({
      status: 400,
      body: { code: 'invalid-request' },
    })
    for (const id of ['nothing', '000000000000-00000000000000000000', reader.about.data.id.replace(/.$/, 'g')]) {
      expect(await acknowledge(bridge, { about: { ...reader.about, data: { id } } }, first!), id).toMatchObject({
        status: 404,
        body: { code: 'session-not-open' },
      })
    }
  })

  test('that acknowledge by themselves take none', async () => {
    const bridge = await startBridge(await start())
    const reader = await openSession(bridge)
    await count(bridge, 0, 1)
    expect(await acknowledge(bridge, reader, await reader.next())).toMatchObject({
      status: 409,
      body: { code: 'acknowledges-itself' },
    })
  })

  test('are forgotten by the broker with all it kept, and their stream ends', async () => {
    const bridge = await startBridge({ ...(await start()), ...LINGER })
    const reader = await openSession(bridge, { ack: 'explicit' })
    await count(bridge, 0, 2)
    await reader.take(2)
    const { id } = reader.about.data
    expect((await forget(bridge.url, id)).status).toBe(204)
    expect(await reader.next()).toEqual({ event: 'status', id: undefined, data: { session: 'deleted' } })
    await reader.ended
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
    const gone = await forget(bridge.url, id)
    expect([gone.status, ((await gone.json()) as { code: string }).code]).toEqual([404, 'not-found'])
    const anew = await openSession(bridge, { ack: 'explicit', lastEventId: reader.events[1]!.id })
    expect(anew.about.data.present).toBe(false)
    expect((await anew.next()).data).toEqual({ reason: 'broker-session-lost' })
    await count(bridge, 2, 3)
    expect(told([await anew.next()])).toEqual(['2'])
  })

  test('are forgotten where they are open nowhere, too', async () => {
    const bridge = await startBridge(await start())
    const reader = await openSession(bridge)
    reader.close()
    await expect.poll(() => metric(bridge, 'causeway_sessions_open')).toBe(0)
    await count(bridge, 0, 1)
    expect((await forget(bridge.url, reader.about.data.id)).status).toBe(204)
    const anew = await openSession(bridge)
    expect(anew.about.data.present).toBe(false)
    expect((await forget(bridge.url, 'no-session')).status).toBe(404)
  })

  test('that were refused leave none at the broker', async () => {
    const settings = { ...(await start()), MQTT_PROTOCOL: '3.1.1' }
    const bridge = await startBridge(settings)
    const filters = ['$share/g/a']
    const refused = await trySession(bridge, { topics: filters })
    await refused.ended
    expect([refused.status, JSON.parse(refused.text()).code]).toEqual([422, 'shared-subscriptions-not-supported'])
    expect(await metric(bridge, 'causeway_sessions_open')).toBe(0)
    const clientId = sessionClientId(sessionId({ owner: '', name: 'reader', filters }), {
      prefix: 'causeway-session-',
      secret: undefined,
    })
    const client = connect(brokerUrl(bridge, settings), { clientId, clean: false, reconnectPeriod: 0 })
    onTestFinished(async () => void client.end(true))
    const { sessionPresent } = await new Promise<IConnackPacket>((resolve) => client.once('connect', resolve))
    expect(sessionPresent).toBe(false)
  })
})
