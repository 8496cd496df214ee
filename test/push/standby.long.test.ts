import { describe, expect, test, vi } from 'vitest'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { connectOnce } from '../support/mqtt-client.ts'
import { pushFile, pushState, startEndpoint } from '../support/push-endpoint.ts'

/** Most time from the end of a bridge until another one has its targets. */
const TAKE_OVER_MS = 15_000

const states = async (bridges: BridgeProcess[]) =>
  Promise.all(bridges.map(async (bridge) => (await pushState({ adminUrl: await bridge.url }))?.state))

/** Resolves with the one bridge that is active, once all others stand by. */
async function untilOneIsActive(bridges: BridgeProcess[]): Promise<{ active: BridgeProcess; others: BridgeProcess[] }> {
  let last: (string | undefined)[] = []
  await vi
    .waitUntil(
      async () => {
        last = await states(bridges)
        const [active, standby] = ['active', 'standby'].map((state) => last.filter((one) => one === state).length)
        return active === 1 && standby === bridges.length - 1
      },
      { timeout: 30_000, interval: 50 },
    )
    .catch(() => {
      throw new Error(`not one active bridge: ${last}`)
    })
  const active = bridges[last.indexOf('active')]!
  return { active, others: bridges.filter((bridge) => bridge !== active) }
}

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('three bridges over MQTT %s', (protocol) => {
  async function start(count: number) {
    const endpoint = await startEndpoint()
    const broker = await startMosquitto()
    const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url, concurrency: 4 }])
    const settings = { MQTT_URL: broker.url, MQTT_PROTOCOL: protocol, PUSH_FILE: path }
    const bridges = Array.from({ length: count }, () => spawnBridge(settings))
    await Promise.all(bridges.map(({ url }) => url))
    const publisher = await connectOnce(broker.url)
    let published = 0
    async function publish(number: number): Promise<void> {
      for (const until = published + number; published < until; published += 1) {
        await publisher.publishAsync('a', `${published}`, { qos: 1 })
      }
    }
    const delivered = () => endpoint.payloads().map(Number)
    const missing = () =>
      Array.from({ length: published }, (_, index) => index).filter((each) => !delivered().includes(each))
    return { endpoint, broker, settings, bridges, publish, delivered, missing, end: () => publisher.end(true) }
  }

  test(
    'deliver each message once in calm, and one takes over within 15 s of a kill',
    { timeout: 120_000 },
    async () => {
      const { bridges, publish, delivered, missing, end } = await start(3)
      const { active, others } = await untilOneIsActive(bridges)
      await publish(50)
      await expect.poll(missing).toEqual([])
      expect(delivered()).toEqual(Array.from({ length: 50 }, (_, index) => index))

      const killedAt = performance.now()
      active.kill('SIGKILL')
      await publish(50)
      await expect.poll(missing, { timeout: 30_000 }).toEqual([])
      expect(performance.now() - killedAt).toBeLessThan(TAKE_OVER_MS)
      const next = await untilOneIsActive(others)

      // One that ends in peace leaves nothing to be delivered twice.
      const before = delivered().length
      next.active.kill('SIGTERM')
      await next.active.exited
      await publish(50)
      await expect.poll(missing, { timeout: 30_000 }).toEqual([])
      await untilOneIsActive(next.others)
      expect(delivered().length).toBe(before + 50)
      end()
    },
  )

  test(
    'one takes over within 15 s of a freeze, and the frozen one stands by when it wakes',
    { timeout: 120_000 },
    async () => {
      const { bridges, publish, delivered, missing, end } = await start(2)
      const { active, others } = await untilOneIsActive(bridges)
      const frozenAt = performance.now()
      active.kill('SIGSTOP')
      await publish(20)
      await expect.poll(missing, { timeout: 30_000 }).toEqual([])
      expect(performance.now() - frozenAt).toBeLessThan(TAKE_OVER_MS)
      active.kill('SIGCONT')
      await vi.waitUntil(async () => (await states([active]))[0] === 'standby', { timeout: 30_000 })
      expect(await states(others)).toEqual(['active'])
      // Neither ends the connection of the other any more.
      const before = delivered().length
      const log = others[0]!.stdout().length
      await publish(50)
      await expect.poll(missing).toEqual([])
      expect(delivered().length).toBe(before + 50)
      expect(await states([active, ...others])).toEqual(['standby', 'active'])
      expect(others[0]!.stdout().slice(log)).toBe('')
      end()
    },
  )
})

test.runIf(hasMosquitto)('bridges that may not use the cluster topic say so, and do not evict each other', async () => {
  const endpoint = await startEndpoint()
  const broker = await startMosquitto({ acl: ['topic readwrite a', 'topic readwrite causeway/marker/#'] })
  const { path } = pushFile([{ name: 'hook', topics: ['a'], url: endpoint.url }])
  const settings = { MQTT_URL: broker.url, PUSH_FILE: path }
  const first = spawnBridge(settings)
  await vi.waitUntil(async () => (await states([first]))[0] === 'active', { timeout: 30_000 })
  expect(first.stdout()).toContain('bridges cannot agree on which of them delivers to push endpoints')
  const second = spawnBridge(settings)
  await vi.waitUntil(async () => (await states([second]))[0] === 'active', { timeout: 30_000 })
  await vi.waitUntil(async () => (await states([first]))[0] === 'standby', { timeout: 30_000 })
  const publisher = await connectOnce(broker.url)
  await publisher.publishAsync('a', 'one', { qos: 1 })
  await endpoint.take(1)
  publisher.end(true)
  expect(await states([first, second])).toEqual(['standby', 'active'])
})
