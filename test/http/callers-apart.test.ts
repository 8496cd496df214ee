import { describe, expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { get, publishRaw, send } from '../support/http.ts'
import { openStream } from '../support/stream.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const [one, two] = [makeToken('one', ['#']), makeToken('two', ['#'])]

test('the same Idempotency-Key of two callers is two keys', async () => {
  const bridge = await startBridge(tokenFile([one, two]).settings)
  const order = (caller: typeof one, payload: string) =>
    publishRaw(bridge, 'topic=orders', payload, { ...caller.headers, 'idempotency-key': '"4711"' })
  expect((await order(one, 'a')).headers.get('idempotency-replayed')).toBeNull()
  expect((await order(one, 'a')).headers.get('idempotency-replayed')).toBe('true')
  const { status, headers } = await order(two, 'b')
  expect([status, headers.get('idempotency-replayed')]).toEqual([200, null])
  expect((await order(one, 'b')).status).toBe(422)
})

test('a name cannot be chosen so that its keys are another caller’s', async () => {
  const [short, long] = [makeToken('a', ['#']), makeToken('a"b', ['#'])]
  const bridge = await startBridge(tokenFile([short, long]).settings)
  expect((await publishRaw(bridge, 'topic=t', 'x', { ...short.headers, 'idempotency-key': '"b1"' })).status).toBe(200)
  expect((await publishRaw(bridge, 'topic=t', 'y', { ...long.headers, 'idempotency-key': '"1"' })).status).toBe(200)
})

describe.runIf(hasMosquitto)('a durable session', () => {
  test('with the same name and filters is a different one for each caller; nobody else can use it', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ ...tokenFile([one, two]).settings, MQTT_URL: broker.url })
    const open = (caller: typeof one) =>
      openStream(`${bridge.url}/subscribe?topic=a&session=mine&ack=explicit`, caller.headers)
    const [first, second] = [await open(one), await open(two)]
    const { data, id: event } = await first.next()
    const { id } = data
    expect((await second.next()).data.id).not.toBe(id)
    expect((await get(bridge, '/sessions', one.headers)).body).toMatchObject([{ id, name: 'mine' }])

    expect(
      (await get(bridge, '/sessions', two.headers)).body.map((session: { id: string }) => session.id),
    ).not.toContain(id)
    const acknowledge = (caller: typeof one) =>
      send(
        bridge,
        'POST',
        `/sessions/${id}/ack`,
        { ...caller.headers, 'content-type': 'application/json' },
        JSON.stringify({ id: event }),
      )
    expect((await acknowledge(two)).body.code).toBe('session-not-open')
    expect((await acknowledge(one)).status).toBe(200)
    expect((await send(bridge, 'DELETE', `/sessions/${id}`, two.headers)).status).toBe(404)
    expect((await send(bridge, 'DELETE', `/sessions/${id}`, one.headers)).status).toBe(204)
  })
})
