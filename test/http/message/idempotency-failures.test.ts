import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { type Answer, publishRaw } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'
import { makeToken, type TestToken, tokenFile } from '../../support/token-file.ts'

function send(bridge: Bridge, key: string, query = 'topic=i'): Promise<Answer> {
  return publishRaw(bridge, query, 'x', { 'idempotency-key': key })
}

describe.runIf(hasMosquitto)('a key whose request', () => {
  test('is not answered yet gets 409, and the answer once there is one', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    broker.freeze()
    const first = send(bridge, 'k')
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
    const second = await send(bridge, 'k')
    expect(second).toMatchObject({ status: 409, body: { code: 'idempotency-running', retryable: true } })
    expect(second.headers.get('retry-after')).toBe('1')
    broker.thaw()
    expect((await first).status).toBe(200)
    expect((await send(bridge, 'k')).headers.get('idempotency-replayed')).toBe('true')
    expect(await metric(bridge, 'causeway_idempotency_keys_total{result="running"}')).toBe(1)
  })

  test('failed for want of a broker is free again', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    await broker.kill()
    await expect.poll(() => bridge.isReachable()).toBe(false)
    expect((await send(bridge, 'k')).status).toBe(503)
    await broker.start()
    await expect.poll(() => bridge.isReachable(), { timeout: 20_000 }).toBe(true)
    const retry = await send(bridge, 'k')
    expect([retry.status, retry.headers.get('idempotency-replayed')]).toEqual([200, null])
  })

  test('was ruled out before it was sent is free again, for another request too', async () => {
    const broker = await startMosquitto({ config: ['max_qos 1'] })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    expect((await send(bridge, 'k', 'topic=i&qos=2')).status).toBe(422)
    expect((await send(bridge, 'k', 'topic=i&qos=1')).status).toBe(200)
  })

  test('ended unknown says so again, and makes no second message', async () => {
    const broker = await startMosquitto()
    const messages = await collect(await mqttClient(broker.url), 'i')
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 200 })
    broker.freeze()
    const first = await send(bridge, 'k')
    expect(first).toMatchObject({ status: 504, body: { outcome: 'unknown' } })
    broker.thaw()
    await expect.poll(async () => (await publishRaw(bridge, 'topic=end', '')).status, { timeout: 20_000 }).toBe(200)
    const again = await send(bridge, 'k')
    expect([again.status, again.body, again.headers.get('idempotency-replayed')]).toEqual([504, first.body, 'true'])
    await publishRaw(bridge, 'topic=i', 'end')
    expect([(await messages.next()).payload.toString(), (await messages.next()).payload.toString()]).toEqual([
      'x',
      'end',
    ])
  })

  test('the broker refused is refused again without asking it', async () => {
    const broker = await startMosquitto({ acl: ['topic write ok'] })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    const first = await send(bridge, 'k')
    expect(first).toMatchObject({ status: 403, body: { mqtt: { reasonCode: 0x87 } } })
    const again = await send(bridge, 'k')
    expect([again.status, again.body, again.headers.get('idempotency-replayed')]).toEqual([403, first.body, 'true'])
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="rejected"}')).toBe(1)
  })

  test('lost its caller is answered to the next one that asks', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url })
    broker.freeze()
    const leaving = new AbortController()
    const first = fetch(`${bridge.url}/publish?topic=i`, {
      method: 'POST',
      body: 'x',
      headers: { 'idempotency-key': 'k' },
      signal: leaving.signal,
    })
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(1)
    leaving.abort()
    await expect(first).rejects.toThrow()
    broker.thaw()
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    const again = await send(bridge, 'k')
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
  })

  test('the broker refused for now is free again', async () => {
    let refusing = true
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'publish' || packet.qos !== 1 || !refusing) return false
      peer.send({ cmd: 'puback', messageId: packet.messageId!, reasonCode: 0x97 })
      return true
    })
    const bridge = await startBridge({ MQTT_URL: broker.url })
    expect(await send(bridge, 'k')).toMatchObject({ status: 429, body: { retryable: true } })
    refusing = false
    expect((await send(bridge, 'k')).status).toBe(200)
  })
})

test('one caller’s keys make room for each other, and leave those of others alone', async () => {
  const [many, few] = [makeToken('many', ['#']), makeToken('few', ['#'])]
  const bridge = await startBridge({ ...tokenFile([many, few]).settings, IDEMPOTENCY_KEYS_MAX_IDENTITY: 2 })
  const isReplayed = async ({ headers }: TestToken, key: string) =>
    (await publishRaw(bridge, 'topic=i', 'x', { ...headers, 'idempotency-key': key })).headers.has(
      'idempotency-replayed',
    )
  expect(await isReplayed(few, 'k')).toBe(false)
  for (const key of ['k1', 'k2', 'k3']) expect(await isReplayed(many, key)).toBe(false)
  expect([
    await isReplayed(few, 'k'),
    await isReplayed(many, 'k3'),
    await isReplayed(many, 'k2'),
    await isReplayed(many, 'k1'),
  ]).toEqual([true, true, true, false])
})
