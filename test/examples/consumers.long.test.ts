import { describe, expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { freePort } from '../support/free-port.ts'
import { consumers, startConsumer } from '../support/example.ts'

const publish = (base: string, body: string) => fetch(`${base}/publish?topic=orders/1`, { method: 'POST', body })

describe.runIf(hasMosquitto).each(consumers())('the example $name', (example) => {
  test(
    'processes each message in spite of its own death and the bridge’s, and stops when another reader takes over',
    { timeout: 60_000 },
    async () => {
      const settings = { MQTT_URL: (await startMosquitto()).url, HTTP_PORT: await freePort() }
      const bridge = spawnBridge(settings)
      const base = await bridge.url
      const first = startConsumer(example, base)
      const isConnected = async () =>
        ((await (await fetch(`${base}/sessions`)).json()) as { connected: boolean; unacknowledged: number }[])[0]
      await expect.poll(isConnected).toMatchObject({ connected: true })
      await publish(base, 'one')
      await expect.poll(first.lines).toEqual(['orders/1 one'])
      await expect.poll(isConnected).toMatchObject({ unacknowledged: 0 })
      first.kill()
      await first.exited
      await expect.poll(isConnected).toMatchObject({ connected: false })
      await publish(base, 'two')
      const second = startConsumer(example, base)
      // The broker may have sent it to the bridge just before it saw that the first consumer is gone.
      const two = expect.stringMatching(/^orders\/1 two( \(again\))?$/)
      await expect.poll(second.lines).toEqual([two])
      await expect.poll(isConnected).toMatchObject({ unacknowledged: 0 })
      bridge.kill('SIGKILL')
      await bridge.exited
      await spawnBridge(settings).url
      await publish(base, 'three')
      await expect.poll(second.lines, { timeout: 20_000 }).toEqual([two, 'orders/1 three'])
      const third = startConsumer(example, base)
      expect(await second.exited).toBe(0)
      await publish(base, 'four')
      await expect.poll(third.lines).toContain('orders/1 four')
    },
  )
})
