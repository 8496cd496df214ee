import { expect, test, vi } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { connectOnce, hasSubscribers } from '../support/mqtt-client.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

test.runIf(hasMosquitto)('a new session begins with the retained messages if the target wants them', async () => {
  const [wanting, plain] = [await startEndpoint(), await startEndpoint()]
  const broker = await startMosquitto()
  const publisher = await connectOnce(broker.url)
  await publisher.publishAsync('a', 'kept', { qos: 1, retain: true })
  const { path } = pushFile([
    { name: 'wanting', topics: ['a'], url: wanting.url, retained: true, format: 'raw' },
    { name: 'plain', topics: ['a'], url: plain.url },
  ])
  const settings = { MQTT_URL: broker.url, PUSH_FILE: path }
  const bridge = await startBridge(settings)
  for (const name of ['wanting', 'plain']) await untilPush(bridge, 'active', name)
  const [retained] = await wanting.take(1)
  expect(retained!.body.toString()).toBe('kept')
  expect(retained!.headers).toMatchObject({ 'mqtt-topic': 'a', 'mqtt-retain': 'true', 'mqtt-qos': '1' })
  await bridge.close()
  // The session is not new any more.
  const next = await startBridge(settings)
  for (const name of ['wanting', 'plain']) await untilPush(next, 'active', name)
  await publisher.publishAsync('a', 'live', { qos: 1 })
  publisher.end(true)
  await wanting.take(2)
  await plain.take(1)
  expect(wanting.requests.map(({ body }) => body.toString())).toEqual(['kept', 'live'])
  expect(plain.payloads()).toEqual(['live'])
})

test.runIf(hasMosquitto)(
  'a target in a shared subscription gets its part, and one that is refused is asked for again',
  async () => {
    const endpoint = await startEndpoint()
    const broker = await startMosquitto()
    const { path } = pushFile([{ name: 'hook', topics: ['$share/group/a'], url: endpoint.url }])
    const plain = await startBridge({ MQTT_URL: broker.url, MQTT_PROTOCOL: '3.1.1', PUSH_FILE: path })
    const { lastError } = await untilPush(plain, 'refused')
    expect(lastError!.reason).toContain('CAUSEWAY_MQTT_SHARED_SUBSCRIPTIONS=true')
    await plain.close()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUSH_FILE: path })
    await untilPush(bridge)
    const [publisher, other] = [await connectOnce(broker.url), await connectOnce(broker.url, { protocolVersion: 5 })]
    let elsewhere = 0
    other.on('message', () => (elsewhere += 1))
    await other.subscribeAsync('$share/group/a', { qos: 1 })
    for (let number = 0; number < 20; number += 1) await publisher.publishAsync('a', `${number}`, { qos: 1 })
    await vi.waitUntil(() => elsewhere + endpoint.requests.length === 20, { timeout: 10_000 })
    expect(Math.min(elsewhere, endpoint.requests.length)).toBeGreaterThan(0)
    publisher.end(true)
    other.end(true)
  },
)

test.runIf(hasMosquitto).each(['5', '3.1.1'])(
  'over MQTT %s a filter that a restart removed brings nothing to the endpoint, and is unsubscribed',
  async (protocol) => {
    const endpoint = await startEndpoint()
    const broker = await startMosquitto()
    const settings = { MQTT_URL: broker.url, MQTT_PROTOCOL: protocol }
    const start = async (topics: string[]) => {
      const { path } = pushFile([{ name: 'hook', topics, url: endpoint.url }])
      const bridge = await startBridge({ ...settings, PUSH_FILE: path })
      await untilPush(bridge)
      return bridge
    }
    const publisher = await connectOnce(broker.url)
    const publish = (topic: string) => publisher.publishAsync(topic, topic, { qos: 1 })
    const before = await start(['kept', 'old/+/x', 'older'])
    await publish('old/1/x')
    await endpoint.take(1)
    await before.close()
    // The session has queued these when the next bridge opens it.
    for (const topic of ['kept', 'old/2/x', 'older']) await publish(topic)
    const bridge = await start(['kept', 'new/#'])
    await vi.waitUntil(async () => !(await hasSubscribers(broker.url, 'old/2/x')))
    await publish('old/3/x')
    await publish('new/1')
    await endpoint.take(3)
    expect(endpoint.payloads()).toEqual(['old/1/x', 'kept', 'new/1'])
    expect(await metric(bridge, 'causeway_unmatched_messages_total')).toBeGreaterThanOrEqual(2)
    expect(bridge.logs.find(({ msg }) => /filter.*earlier push file/.test(String(msg)))).toMatchObject({ push: 'hook' })
    // All that came is acknowledged: nothing comes again to the next bridge.
    await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(0)
    await bridge.close()
    await start(['kept', 'new/#'])
    await publish('kept')
    await endpoint.take(4)
    expect(endpoint.payloads().slice(3)).toEqual(['kept'])
    await publisher.endAsync()
  },
)

test.runIf(hasAccounts)('with AUTH=broker a target uses the account of the bridge', async () => {
  const endpoint = await startEndpoint()
  const broker = await startMosquittoWithAccounts({
    bridge: { password: 'own' },
    ann: { password: 'hers', acl: ['topic write a'] },
  })
  const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
  const bridge = await startBridge({
    MQTT_URL: broker.url,
    MQTT_USERNAME: 'bridge',
    MQTT_PASSWORD: 'own',
    AUTH: 'broker',
    ADMIN_PORT: 0,
    PUSH_FILE: path,
  })
  await untilPush(bridge)
  const response = await fetch(`${bridge.url}/publish?topic=a`, {
    method: 'POST',
    body: 'one',
    headers: { authorization: `Basic ${Buffer.from('ann:hers').toString('base64')}` },
  })
  expect(response.status).toBe(200)
  await endpoint.take(1)
  expect(endpoint.payloads()).toEqual(['one'])
})
