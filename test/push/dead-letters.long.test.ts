import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

describe.each(BROKERS)('on $name', ({ start, protocol }) => {
  test('what the endpoint refuses, or does not take in so many attempts, goes to the dead-letter topic', async () => {
    const endpoint = await startEndpoint()
    const settings = await start()
    // The filter brings the dead letters too: they are not posted again.
    const { path } = pushFile([
      { name: 'hook', topics: ['#'], url: endpoint.url, deadLetterTopic: 'dead', attempts: 2, retryMaxMs: 50 },
    ])
    endpoint.answer = ({ body }) => (body.includes('refused') ? 422 : body.includes('failed') ? 503 : 200)
    const bridge = await startBridge({ ...settings, PUSH_FILE: path })
    await untilPush(bridge)
    const client = await mqttClient(brokerUrl(bridge, settings), { protocolVersion: protocol })
    const letters = await collect(client, 'dead', 1)
    const properties =
      protocol === 5 ? { contentType: 'text/x', userProperties: { own: '1' }, messageExpiryInterval: 100 } : undefined
    await publish(bridge, { topic: 'a/b', payload: 'refused', ...(properties && { properties }) })
    await publish(bridge, { topic: 'a/b', payload: 'failed' })
    await publish(bridge, { topic: 'a/b', payload: 'good' })
    const [refused, failed] = [await letters.next(), await letters.next()]
    expect([refused.qos, refused.retain]).toEqual([1, false])
    const about = (status: number, reason: string) => ({
      'push-name': 'hook',
      'push-status': protocol === 5 ? String(status) : status,
      'push-reason': reason,
      'push-topic': 'a/b',
    })
    if (protocol === 5) {
      expect(refused.payload.toString()).toBe('refused')
      expect(refused.properties).toEqual({
        contentType: 'text/x',
        userProperties: { own: '1', ...about(422, 'it answered 422') },
      })
      expect(failed.properties?.userProperties).toEqual(about(503, 'it answered 503'))
    } else {
      const message = { topic: 'a/b', encoding: 'utf8', qos: 1, retain: false }
      const [first, second] = [refused, failed].map(({ payload }) => JSON.parse(payload.toString()) as object)
      expect(first).toEqual({ ...about(422, 'it answered 422'), message: { ...message, payload: 'refused' } })
      expect(second).toEqual({ ...about(503, 'it answered 503'), message: { ...message, payload: 'failed' } })
    }
    await endpoint.take(4)
    expect(endpoint.payloads()).toEqual(['refused', 'failed', 'failed', 'good'])
    await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(0)
    expect(letters.packets.length).toBe(2)
  })
})

test.runIf(hasMosquitto)('a message is not acknowledged before the broker has its dead letter', async () => {
  const endpoint = await startEndpoint()
  endpoint.answer = () => 400
  const broker = await startMosquitto({
    acl: ['topic readwrite a', 'topic readwrite causeway/#', 'topic read dead'],
  })
  const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url, deadLetterTopic: 'dead' }])
  const bridge = await startBridge({ MQTT_URL: broker.url, PUSH_FILE: path })
  await untilPush(bridge)
  await publish(bridge, { topic: 'a', payload: 'one' })
  const refusals = () =>
    bridge.logs.filter(({ msg }) => String(msg).startsWith('the broker does not take a dead letter'))
  await expect.poll(() => refusals().length).toBeGreaterThan(0)
  expect(refusals()[0]).toMatchObject({ push: 'hook', reason: expect.stringContaining('refused') })
  expect(await metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(1)
})
