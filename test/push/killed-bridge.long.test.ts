import { describe, expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { connectOnce } from '../support/mqtt-client.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

const COUNT = 20

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('over MQTT %s', (protocol) => {
  test('a bridge that is killed while the endpoint is away loses nothing, and marks what may have been posted', async () => {
    const endpoint = await startEndpoint()
    const broker = await startMosquitto()
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url, retryMaxMs: 100 }])
    const settings = { MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUSH_FILE: path }
    const first = spawnBridge(settings)
    await untilPush({ adminUrl: await first.url })
    // The first message is posted, and its answer does not come any more.
    endpoint.answer = () => () => {}
    const publisher = await connectOnce(broker.url)
    for (let number = 0; number < COUNT; number += 1) await publisher.publishAsync('a', `${number}`, { qos: 1 })
    publisher.end(true)
    await endpoint.take(1)
    first.kill('SIGKILL')
    await first.exited
    await endpoint.stop()
    const second = spawnBridge(settings)
    await untilPush({ adminUrl: await second.url }, 'retrying')
    endpoint.answer = () => 204
    await endpoint.listen()
    await endpoint.take(1 + COUNT)
    const payloads = Array.from({ length: COUNT }, (_, number) => `${number}`)
    expect(endpoint.payloads()).toEqual(['0', ...payloads])
    const again = JSON.parse(endpoint.requests[1]!.body.toString()) as { redelivered?: boolean }
    expect(again.redelivered).toBe(true)
    expect(endpoint.requests[1]!.headers['webhook-id']).not.toBe(endpoint.requests[0]!.headers['webhook-id'])
  })
})
