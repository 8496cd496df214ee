import { describe, expect, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

const ask = (bridge: Bridge, query: string, signal?: AbortSignal) =>
  fetch(`${bridge.url}/request?topic=q&${query}`, { method: 'POST', body: 'ping', ...(signal && { signal }) })
const waiting = (bridge: Bridge) => metric(bridge, 'causeway_requests_waiting')

describe.runIf(hasMosquitto)('while the broker is frozen', () => {
  test('a request ends at its own timeout, as not sent where the reply topic is not subscribed to yet', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 600_000 })
    broker.freeze()
    const response = await ask(bridge, 'timeout=200')
    expect(response.status).toBe(504)
    expect(await response.json()).toMatchObject({ code: 'no-reply', outcome: 'not-sent' })
    expect(await waiting(bridge)).toBe(0)
    expect(await metric(bridge, 'causeway_publish_in_flight')).toBe(0)
  })

  test('a caller that leaves frees its slot, and nothing is published for it', async () => {
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 600_000, REQUESTS_MAX: 1 })
    broker.freeze()
    const leaving = new AbortController()
    const first = ask(bridge, 'timeout=300000', leaving.signal)
    await expect.poll(() => waiting(bridge)).toBe(1)
    expect((await ask(bridge, 'timeout=300000')).status).toBe(503)
    leaving.abort()
    await expect(first).rejects.toThrow()
    await expect.poll(() => waiting(bridge)).toBe(0)
    broker.thaw()
    // 404, as no client subscribes to the topic. Of the three requests only this one was published.
    expect((await ask(bridge, 'timeout=300000')).status).toBe(404)
    expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="no_subscribers"}')).toBe(1)
  })
})

test('a request the broker does not acknowledge ends at its own timeout, and its outcome is unknown', async () => {
  const broker = await startScriptedBroker(({ cmd }) => cmd === 'publish')
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 3000 })
  const response = await ask(bridge, 'timeout=200')
  expect(response.status).toBe(504)
  expect(await response.json()).toMatchObject({ code: 'no-reply', outcome: 'unknown' })
  expect(await waiting(bridge)).toBe(0)
  // The publish itself stays in flight until the broker answers or it times out.
  await expect.poll(() => metric(bridge, 'causeway_publish_in_flight'), { timeout: 10_000 }).toBe(0)
  expect(await metric(bridge, 'causeway_publish_messages_total{qos="1",outcome="timeout"}')).toBe(1)
})

test('a reply that overtakes the acknowledgement is the answer at once', async () => {
  const broker = await startScriptedBroker((packet) => {
    if (packet.cmd !== 'publish') return false
    const { responseTopic, correlationData } = packet.properties!
    const subscriber = broker.peers.findLast(({ connect }) => connect!.clientId.endsWith('-request'))!
    subscriber.send({
      cmd: 'publish',
      topic: responseTopic!,
      payload: 'pong',
      qos: 0,
      retain: false,
      dup: false,
      properties: { correlationData: correlationData! },
    })
    return true
  })
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 600_000 })
  const response = await ask(bridge, 'timeout=300000')
  expect([response.status, await response.text()]).toEqual([200, 'pong'])
})
