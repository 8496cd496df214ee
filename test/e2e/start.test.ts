import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { freePort } from '../support/free-port.ts'

async function takenPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

describe('a configuration that is not valid', () => {
  test('is reported completely, with exit code 1, before anything listens', async () => {
    const embeddedPort = await takenPort()
    const bridge = spawnBridge({
      HTTP_PORT: 'eighty',
      MQTT_URL: 'http://broker',
      PUBLISH_TIMEOUT_MS: -1,
      REATIN: 'x',
      EMBEDDED_PORT: embeddedPort,
    })
    expect(await bridge.exited).toEqual({ code: 1, signal: null })
    const stderr = bridge.stderr()
    for (const name of ['CAUSEWAY_HTTP_PORT', 'CAUSEWAY_MQTT_URL', 'CAUSEWAY_PUBLISH_TIMEOUT_MS', 'CAUSEWAY_REATIN']) {
      expect(stderr).toMatch(new RegExp(`${name}: expected .*, got `))
    }
    expect(bridge.stdout()).toBe('')
  })
})

describe('a port that another process uses', () => {
  test.each(['HTTP_PORT', 'ADMIN_PORT', 'EMBEDDED_PORT'])(
    'is reported with the variable to change: %s',
    async (name) => {
      const port = await takenPort()
      const bridge = spawnBridge({ [name]: port })
      expect(await bridge.exited).toEqual({ code: 1, signal: null })
      expect(bridge.stdout()).toContain(
        `port ${port} is in use by another process; set CAUSEWAY_${name} to another port`,
      )
    },
  )
})

test('the first log lines say where to publish, subscribe and look at metrics and docs', async () => {
  const [httpPort, embeddedPort] = [await freePort(), await freePort()]
  const bridge = spawnBridge({ HTTP_PORT: httpPort, EMBEDDED_PORT: embeddedPort })
  const url = await bridge.url
  expect(url).toBe(`http://127.0.0.1:${httpPort}`)
  await expect.poll(() => bridge.stdout()).toContain(`${url}/docs`)
  for (const text of [
    `mqtt://127.0.0.1:${embeddedPort}`,
    `${url}/publish?topic=home/temp`,
    `${url}/subscribe?topic=home/%23`,
    `${url}/metrics`,
  ]) {
    expect(bridge.stdout()).toContain(text)
  }
})
