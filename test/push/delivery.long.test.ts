import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, metric, startBridge } from '../support/bridge.ts'
import { publish } from '../support/http.ts'
import { connectOnce } from '../support/mqtt-client.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

describe.each(BROKERS)('on $name', ({ start }) => {
  test('each message is posted once, in order, and acknowledged after a 2xx only', async () => {
    const endpoint = await startEndpoint()
    const settings = await start()
    const { path } = pushFile([{ name: 'hook', topics: ['a/#', 'a/1'], url: endpoint.url }])
    const bridge = await startBridge({ ...settings, PUSH_FILE: path })
    await untilPush(bridge)
    for (let index = 0; index < 5; index += 1) await publish(bridge, { topic: 'a/1', payload: `${index}` })
    await publish(bridge, { topic: 'b', payload: 'not for it' })
    await publish(bridge, { topic: 'a/2', payload: 'é', properties: undefined })
    const requests = await endpoint.take(6)
    expect(endpoint.payloads()).toEqual(['0', '1', '2', '3', '4', 'é'])
    expect(JSON.parse(requests[5]!.body.toString())).toEqual({
      topic: 'a/2',
      payload: 'é',
      encoding: 'utf8',
      qos: 1,
      retain: false,
    })
    expect(requests[0]).toMatchObject({ method: 'POST', path: '/hook' })
    expect(requests[0]!.headers).toMatchObject({ 'content-type': 'application/json', 'user-agent': 'causeway' })
    expect(requests[0]!.headers['webhook-id']).toMatch(/^msg_/)
    expect(new Set(requests.map(({ headers }) => headers['webhook-id'])).size).toBe(6)
    await expect.poll(() => metric(bridge, 'causeway_push_deliveries_total{push="hook",outcome="delivered"}')).toBe(6)
    await expect.poll(() => metric(bridge, 'causeway_push_waiting{push="hook"}')).toBe(0)
    expect(await metric(bridge, 'causeway_push_active{push="hook"}')).toBe(1)
    expect(await metric(bridge, 'causeway_push_delivery_seconds_count{push="hook"}')).toBe(6)
  })

  test('while the endpoint is away the broker keeps the messages, beyond a bridge that ends', async () => {
    const endpoint = await startEndpoint()
    const settings: Record<string, string | number | boolean> = { SESSION_MAX_UNACKED: 3, ...(await start()) }
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url, retryMaxMs: 50 }])
    await endpoint.stop()
    const first = await startBridge({ ...settings, PUSH_FILE: path })
    await untilPush(first)
    const url = brokerUrl(first, settings)
    const publisher = await connectOnce(url)
    for (let index = 0; index < 8; index += 1) await publisher.publishAsync('a', `${index}`, { qos: 1 })
    const { lastError } = await untilPush(first, 'retrying')
    expect(lastError!.reason).toBe('nothing listens there (ECONNREFUSED)')
    await publisher.endAsync()
    if (first.embeddedUrl === undefined) {
      await first.close()
      await endpoint.listen()
      await startBridge({ ...settings, PUSH_FILE: path })
    } else await endpoint.listen()
    await endpoint.take(8)
    expect(endpoint.payloads()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  })
})
