import { expect, test } from 'vitest'
import { metric } from '../support/bridge.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'
import { pushFile, startEndpoint } from '../support/push-endpoint.ts'

test.runIf(hasMosquitto)('a publish that got no answer because its bridge was killed may have arrived', async () => {
  const broker = await startMosquitto()
  const subscriber = await mqttClient(broker.url, { clean: false, clientId: 'subscriber', reconnectPeriod: 100 })
  const messages = await collect(subscriber, 'a')
  const bridge = spawnBridge({ MQTT_URL: broker.url })
  const url = await bridge.url
  broker.freeze()
  const publishing = fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'sent' }).catch((error: Error) => error)
  await expect.poll(() => metric({ adminUrl: url }, 'causeway_publish_in_flight')).toBe(1)
  bridge.kill('SIGKILL')
  await bridge.exited
  expect(await publishing).toBeInstanceOf(Error)
  broker.thaw()
  expect(String((await messages.next()).payload)).toBe('sent')
})

test.runIf(hasMosquitto)(
  'a key is forgotten with its bridge, so the same request publishes a second message',
  async () => {
    const broker = await startMosquitto()
    const messages = await collect(await mqttClient(broker.url), 'a')
    const pay = (url: string) =>
      fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'paid', headers: { 'Idempotency-Key': '"4711"' } })
    const bridge = spawnBridge({ MQTT_URL: broker.url })
    const url = await bridge.url
    const first = await pay(url)
    expect([first.status, (await pay(url)).headers.get('Idempotency-Replayed')]).toEqual([200, 'true'])
    bridge.kill('SIGKILL')
    await bridge.exited
    const again = await pay(await spawnBridge({ MQTT_URL: broker.url }).url)
    expect([again.status, again.headers.get('Idempotency-Replayed')]).toEqual([200, null])
    expect([String((await messages.next()).payload), String((await messages.next()).payload)]).toEqual(['paid', 'paid'])
  },
)

test.runIf(hasMosquitto)(
  'a message of a push that no endpoint has taken outlives its bridge, and comes marked',
  async () => {
    const endpoint = await startEndpoint()
    // The first bridge gets no answer.
    endpoint.answer = (_request, index) => (index === 0 ? () => {} : 204)
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
    const settings = { MQTT_URL: (await startMosquitto()).url, PUSH_FILE: path }
    const bridge = spawnBridge(settings)
    const url = await bridge.url
    const isActive = async () =>
      ((await (await fetch(`${url}/push`)).json()) as { state: string }[]).every(({ state }) => state === 'active')
    await expect.poll(isActive, { timeout: 20_000 }).toBe(true)
    await fetch(`${url}/publish?topic=a`, { method: 'POST', body: 'paid' })
    await endpoint.take(1)
    bridge.kill('SIGKILL')
    await bridge.exited
    await spawnBridge(settings).url
    const [, again] = await endpoint.take(2)
    expect(JSON.parse(String(again!.body))).toMatchObject({ payload: 'paid', redelivered: true })
  },
)
