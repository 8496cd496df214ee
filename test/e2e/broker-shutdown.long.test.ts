import { expect, test } from 'vitest'
import { basic, hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { spawnBridge } from '../support/bridge-process.ts'
import { openStream } from '../support/stream.ts'

test.runIf(hasAccounts)(
  'SIGTERM ends the streams of every caller and asks their clients to reconnect, and disconnects from the broker',
  async () => {
    const broker = await startMosquittoWithAccounts({ ann: { password: 'good' }, bob: { password: 'good' } })
    const bridge = spawnBridge({ AUTH: 'broker', MQTT_URL: broker.url })
    const url = `${await bridge.url}/subscribe?topic=a`
    const streams = [await openStream(url, basic('ann', 'good')), await openStream(url, basic('bob', 'good'))]
    bridge.kill('SIGTERM')
    for (const stream of streams) {
      await stream.ended
      expect(stream.events).toEqual([])
      expect(stream.text()).toMatch(/retry: \d+\n$/)
    }
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    expect(bridge.stdout()).toContain('shut down')
    expect(bridge.stdout()).not.toContain('not everything finished')
  },
)
