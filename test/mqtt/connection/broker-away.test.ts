import { describe, expect, test, vi } from 'vitest'
import { metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { freePort } from '../../support/free-port.ts'
import { get, publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

const PROTOCOLS = ['5', '3.1.1']

const unavailable = {
  status: 503,
  body: { code: 'broker-unavailable', retryable: true, title: 'The broker cannot be reached' },
}

test('without a broker the bridge starts and answers 503 at once, with Retry-After', async () => {
  const bridge = await startBridge(
    { MQTT_URL: `mqtt://127.0.0.1:${await freePort()}`, PUBLISH_TIMEOUT_MS: 600_000 },
    { waitForBroker: false },
  )
  for (const qos of [0, 1, 2]) {
    const answer = await publish(bridge, { topic: 'a', qos })
    expect(answer).toMatchObject(unavailable)
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(answer.body.detail).toContain('ECONNREFUSED')
  }
  expect((await get(bridge, '/readyz')).status).toBe(503)
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="unavailable"}')).toBe(1)
  expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
})

describe.runIf(hasMosquitto).each(PROTOCOLS)('over MQTT %s', (protocol) => {
  test('503 when the broker is killed, 200 when it is back', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUBLISH_TIMEOUT_MS: 600_000 })
    expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
    await broker.kill()
    expect(await publish(bridge, { topic: 'a' })).toMatchObject(unavailable)
    expect((await get(bridge, '/readyz')).status).toBe(503)
    await broker.start()
    await expect.poll(async () => (await publish(bridge, { topic: 'a', qos: 2 })).status, { timeout: 20_000 }).toBe(200)
    await expect.poll(async () => (await get(bridge, '/readyz')).status, { timeout: 20_000 }).toBe(200)
  })

  test('a QoS 0 publish is refused while the broker cannot be reached, not kept for later', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol })
    await broker.kill()
    expect(await publish(bridge, { topic: 'a', payload: 'lost', qos: 0 })).toMatchObject(unavailable)
    await broker.start()
    const messages = await collect(await mqttClient(broker.url), 'a')
    await expect
      .poll(async () => (await publish(bridge, { topic: 'a', payload: 'behind', qos: 0 })).status, { timeout: 20_000 })
      .toBe(202)
    expect((await messages.next()).payload.toString()).toBe('behind')
  })

  test('a bridge that started before its broker connects to it', async () => {
    const broker = await startMosquitto()
    await broker.kill()
    const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol }, { waitForBroker: false })
    expect(await publish(bridge, { topic: 'a' })).toMatchObject(unavailable)
    await broker.start()
    await vi.waitFor(async () => expect((await publish(bridge, { topic: 'a' })).status).toBe(200), { timeout: 20_000 })
  })
})

test.each([
  ['server unavailable', 0x88],
  ['server busy', 0x89],
])('a connection the broker refuses with “%s” is 503 with that reason', async (_name, reasonCode) => {
  const broker = await startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect') return false
    peer.send({ cmd: 'connack', sessionPresent: false, reasonCode })
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url }, { waitForBroker: false })
  const answer = await publish(bridge, { topic: 'a' })
  expect(answer).toMatchObject({ status: 503, body: { code: 'broker-unavailable', mqtt: { reasonCode } } })
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
})

test.each([
  ['bad user name or password', 0x86, '5', 'CAUSEWAY_MQTT_PASSWORD'],
  ['not authorized', 0x87, '5', 'CAUSEWAY_MQTT_USERNAME'],
  ['bad user name or password', 4, '3.1.1', 'CAUSEWAY_MQTT_PASSWORD'],
  ['not authorized', 5, '3.1.1', 'CAUSEWAY_MQTT_USERNAME'],
  ['client identifier not valid', 2, '3.1.1', 'CAUSEWAY_MQTT_CLIENT_ID'],
])('a connection refused with “%s” (%i) is not to be tried again, and names the setting', async (...refusal) => {
  const [_name, code, protocol, setting] = refusal
  const broker = await startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect') return false
    const answer = protocol === '5' ? { reasonCode: code } : { returnCode: code }
    peer.send({ cmd: 'connack', sessionPresent: false, ...answer })
    peer.close()
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: protocol }, { waitForBroker: false })
  const answer = await publish(bridge, { topic: 'a' })
  expect(answer).toMatchObject({
    status: 503,
    body: { code: 'bridge-refused', retryable: false, mqtt: { reasonCode: code } },
  })
  expect(answer.headers.get('retry-after')).toBeNull()
  expect(answer.body.detail).toContain(setting)
  const where = `mqtt://127.0.0.1:${broker.port} over MQTT ${protocol}`
  expect((await get(bridge, '/readyz')).body.detail).toContain(where)
  expect(bridge.logs.map(({ msg }) => msg)).toContain(
    `the broker at ${where} refuses the bridge; trying again until it can`,
  )
})

test('the reason given is that of the last attempt', async () => {
  let silent = true
  const broker = await startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect') return false
    if (silent) return true
    // An attempt over MQTT 3.1.1 may be under way.
    peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x88, returnCode: 3 })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, MQTT_CONNECT_TIMEOUT_MS: 300 }, { waitForBroker: false })
  expect((await publish(bridge, { topic: 'a' })).body).toMatchObject({
    detail: expect.stringContaining('it did not answer CONNECT within 300 ms'),
  })
  silent = false
  await expect
    .poll(async () => (await publish(bridge, { topic: 'a' })).body.mqtt, { timeout: 20_000 })
    .toMatchObject({ reasonCode: 0x88 })
})
