import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../support/bridge.ts'
import { startBalancer } from '../support/balancer.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { freePort } from '../support/free-port.ts'
import { consumers, startConsumer } from '../support/example.ts'
import { publish } from '../support/http.ts'

/** A process has to start or to reconnect. */
const SLOW = { timeout: 20_000 }
const CONNECTED = [{ connected: true }]

async function sessions(base: string): Promise<unknown> {
  return (await fetch(`${base}/sessions`)).json()
}

/** Publishes the numbers from `from` to `to - 1`. */
async function count(bridge: Bridge, from: number, to: number): Promise<void> {
  for (let number = from; number < to; number += 1) await publish(bridge, { topic: 'orders/1', payload: `${number}` })
}

/** The numbers of lines such as `orders/1 17 (again)`, without repeats. */
const numbers = (lines: string[]) => [...new Set(lines.map((line) => Number(line.split(' ')[1])))]

describe.runIf(hasMosquitto).each(consumers())('the example $name', { timeout: 60_000 }, (example) => {
  test('goes on when its acknowledgements reach an instance that does not have its stream', async () => {
    const settings = { MQTT_URL: (await startMosquitto()).url, SESSION_MAX_UNACKED: 2, STREAM_LINGER_MS: 60_000 }
    const [one, other] = await Promise.all([startBridge(settings), startBridge(settings)])
    let strays = 3
    const base = await startBalancer({
      targetOf: ({ method }) => (method === 'POST' && (strays -= 1) >= 0 ? other : one).url,
    })
    const { lines } = startConsumer(example, base)
    await expect.poll(() => sessions(one.url), SLOW).toMatchObject(CONNECTED)
    await count(one, 0, 6)
    await expect.poll(() => numbers(lines()), SLOW).toEqual([0, 1, 2, 3, 4, 5])
    await expect.poll(() => sessions(one.url), SLOW).toMatchObject([{ connected: true, unacknowledged: 0 }])
  })

  test('reconnects when its connection breaks in the middle of an event', async () => {
    const bridge = await startBridge({ MQTT_URL: (await startMosquitto()).url, STREAM_LINGER_MS: 60_000 })
    let isWhole = false
    const base = await startBalancer({
      targetOf: () => bridge.url,
      cuts: (text) => !isWhole && text.includes('"payload":"1"') && (isWhole = true),
    })
    const { lines } = startConsumer(example, base)
    await expect.poll(() => sessions(bridge.url), SLOW).toMatchObject(CONNECTED)
    await count(bridge, 0, 3)
    await expect.poll(() => numbers(lines()), SLOW).toEqual([0, 1, 2])
    expect(isWhole).toBe(true)
  })

  test('reports that the broker lost the session while no bridge was running, before any message came', async () => {
    const broker = await startMosquitto()
    const settings = { MQTT_URL: broker.url, HTTP_PORT: await freePort() }
    const bridge = spawnBridge(settings)
    const base = await bridge.url
    const { output } = startConsumer(example, base)
    await expect.poll(() => sessions(base), SLOW).toMatchObject(CONNECTED)
    bridge.kill('SIGKILL')
    await bridge.exited
    await broker.kill()
    await broker.start()
    await spawnBridge(settings).url
    await expect.poll(output, SLOW).toContain('messages may be missing: broker-session-lost')
  })
})
