import { expect, test, vi } from 'vitest'
import { metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { hasSubscribers } from '../support/mqtt-client.ts'
import { pushFile, pushState, startEndpoint, untilPush } from '../support/push-endpoint.ts'

test.runIf(hasMosquitto)('SIGHUP starts, changes and ends targets, and unchanged ones go on undisturbed', async () => {
  const [same, before, after] = [await startEndpoint(), await startEndpoint(), await startEndpoint()]
  const broker = await startMosquitto()
  const unchanged = { name: 'same', topics: ['a'], url: same.url }
  const file = pushFile([
    unchanged,
    { name: 'hook', topics: ['b', 'gone'], url: before.url },
    { name: 'old', topics: ['d'], url: before.url },
  ])
  const bridge = await startBridge({ MQTT_URL: broker.url, PUSH_FILE: file.path })
  for (const name of ['same', 'hook', 'old']) await untilPush(bridge, 'active', name)
  // A request of the unchanged target is open over the reload.
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  same.answer = async () => {
    await held
    return 200
  }
  await publish(bridge, { topic: 'a', payload: 'open' })
  await same.take(1)
  const { since } = await pushState(bridge, 'same')

  file.write([
    unchanged,
    { name: 'hook', topics: ['b', 'c'], url: after.url },
    { name: 'new', topics: ['d'], url: after.url },
  ])
  bridge.reload()
  await untilPush(bridge, 'active', 'new')
  await vi.waitUntil(async () => (await pushState(bridge, 'hook'))?.topics.includes('c'))
  await untilPush(bridge, 'active', 'hook')
  expect(await pushState(bridge, 'old')).toBeUndefined()
  for (const topic of ['b', 'c', 'd']) await publish(bridge, { topic, payload: topic })
  await after.take(3)
  expect(after.payloads().toSorted()).toEqual(['b', 'c', 'd'])
  expect(before.requests).toEqual([])
  // The session has the same client id, and the subscription that the target no longer has is ended.
  await vi.waitUntil(async () => !(await hasSubscribers(broker.url, 'gone')))
  release()
  await expect.poll(() => metric(bridge, 'causeway_push_deliveries_total{push="same",outcome="delivered"}')).toBe(1)
  expect(same.payloads()).toEqual(['open'])
  expect(await pushState(bridge, 'same')).toMatchObject({ since })
})

test('a broken file changes nothing but the log', async () => {
  const endpoint = await startEndpoint()
  const file = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
  const bridge = await startBridge({ PUSH_FILE: file.path })
  await untilPush(bridge)
  file.write([{ name: 'hook', topics: ['a'], url: 'https://user:private@x' }])
  bridge.reload()
  await expect
    .poll(() => bridge.logs.filter(({ level }) => level === 50))
    .toMatchObject([
      {
        msg: expect.stringMatching(
          /^push targets not reloaded, the current ones stay in use: .*target 0: url: expected/,
        ),
      },
    ])
  await publish(bridge, { topic: 'a', payload: 'one' })
  await endpoint.take(1)
  expect(JSON.stringify(bridge.logs)).not.toContain('private')
})

test.runIf(hasMosquitto)(
  'a bridge that ends gives open requests their time, and acknowledges what they have delivered',
  async () => {
    const endpoint = await startEndpoint()
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
    const broker = await startMosquitto()
    const bridge = await startBridge({ MQTT_URL: broker.url, PUSH_FILE: path })
    await untilPush(bridge)
    let release = () => {}
    const held = new Promise<void>((resolve) => (release = resolve))
    endpoint.answer = async (_, index) => {
      if (index === 0) await held
      return 200
    }
    for (const payload of ['one', 'two']) await publish(bridge, { topic: 'a', payload })
    await endpoint.take(1)
    const closed = bridge.close()
    release()
    await closed
    expect(endpoint.payloads()).toEqual(['one'])
    const next = await startBridge({ MQTT_URL: broker.url, PUSH_FILE: path })
    await untilPush(next)
    const [, second] = await endpoint.take(2)
    expect(endpoint.payloads()).toEqual(['one', 'two'])
    expect(JSON.parse(second!.body.toString())).toMatchObject({ redelivered: true })
  },
)

test.runIf(hasMosquitto)(
  'a request that is not answered in time does not hold up the end, and its message comes again',
  async () => {
    const endpoint = await startEndpoint()
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
    const broker = await startMosquitto()
    const settings = { MQTT_URL: broker.url, PUSH_FILE: path, SHUTDOWN_MS: 1000 }
    const bridge = await startBridge(settings)
    await untilPush(bridge)
    endpoint.answer = (_, index) => (index === 0 ? () => {} : 200)
    await publish(bridge, { topic: 'a', payload: 'one' })
    await endpoint.take(1)
    await bridge.close()
    const next = await startBridge(settings)
    await untilPush(next)
    await endpoint.take(2)
    expect(endpoint.payloads()).toEqual(['one', 'one'])
  },
)
