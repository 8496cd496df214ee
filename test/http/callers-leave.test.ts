import { type ClientRequest, request as open } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { publish } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'

const CALLERS = 20
const PATHS = ['/publish?topic=a', '/publish/batch', '/request?topic=a&timeout=60000']

/** A caller that has sent the start of its request on its own socket. */
async function begin(bridge: Bridge, path: string, start: string): Promise<ClientRequest> {
  const type = path.includes('batch') ? 'application/x-ndjson' : 'text/plain'
  const caller = open(bridge.url + path, { method: 'POST', agent: false, headers: { 'content-type': type } })
  caller.on('error', () => {})
  onTestFinished(() => void caller.destroy())
  await new Promise<void>((resolve, reject) => caller.write(start, (error) => (error ? reject(error) : resolve())))
  return caller
}

async function published(bridge: Bridge): Promise<number> {
  const text = await (await fetch(`${bridge.url}/metrics`)).text()
  const counts = [...text.matchAll(/^causeway_publish_messages_total\{.*\} (\d+)$/gm)]
  return counts.reduce((sum, [, count]) => sum + Number(count), 0)
}

describe.runIf(hasMosquitto).each(PATHS)('callers of %s that leave', (path) => {
  const body = path.includes('batch') ? '{"topic":"a"}\n' : 'x'

  test('before their body has ended leave nothing behind', async () => {
    const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url })
    const unfinished = path.includes('batch') ? '{"topic":"a"' : 'x'
    const callers = await Promise.all(Array.from({ length: CALLERS }, () => begin(bridge, path, unfinished)))
    for (const caller of callers) caller.destroy()
    expect((await publish(bridge, { topic: 'b' })).status).toBe(200)
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    expect(await metric(bridge, 'causeway_requests_waiting')).toBe(0)
    expect(await published(bridge)).toBe(1)
    expect(bridge.logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
  })

  test('while the broker acknowledges nothing give their places back, and are counted once', async () => {
    const broker = await startMosquitto()
    // A client subscribes and never replies.
    await (await mqttClient(broker.url)).subscribeAsync('a')
    const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_MAX_IN_FLIGHT: CALLERS, PUBLISH_CONNECTIONS: 1 })
    // The first request also subscribes to the reply topic.
    if (path.includes('request')) {
      expect((await fetch(`${bridge.url}/request?topic=a&timeout=1`, { method: 'POST' })).status).toBe(504)
    }
    // It may have timed out before the broker acknowledged it.
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(0)
    const before = await published(bridge)
    broker.freeze()
    const callers = await Promise.all(Array.from({ length: CALLERS }, () => begin(bridge, path, body)))
    for (const caller of callers) caller.end()
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight')).toBe(CALLERS)
    for (const caller of callers) caller.destroy()
    await expect.poll(() => metric(bridge, 'causeway_requests_waiting')).toBe(0)
    // The broker already has the messages. They stay in flight until it acknowledges them.
    broker.thaw()
    await expect.poll(() => metric(bridge, 'causeway_publish_in_flight'), { timeout: 20_000 }).toBe(0)
    await expect.poll(() => published(bridge)).toBe(before + CALLERS)
    const again = await Promise.all(Array.from({ length: CALLERS }, () => publish(bridge, { topic: 'a' })))
    expect(again.map(({ status }) => status)).toEqual(again.map(() => 200))
    // The one request above that nobody replied to is logged.
    const warnings = bridge.logs.filter(({ level, status }) => Number(level) >= 40 && status !== 504)
    expect(warnings).toEqual([])
  })
})
