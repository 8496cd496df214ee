import { once } from 'node:events'
import { request } from 'node:http'
import { expect, test } from 'vitest'
import { basic } from '../support/accounts.ts'
import { startBridge } from '../support/bridge.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'

/** Sends a publish from a loopback address, and resolves with the status of the answer. */
async function publishFrom(url: string, localAddress: string, username: string): Promise<number> {
  const sent = request(`${url}/publish?topic=a`, {
    method: 'POST',
    localAddress,
    headers: basic(username, 'secret'),
  })
  sent.end('x')
  const [response] = await once(sent, 'response')
  response.resume()
  return response.statusCode
}

// Each attempt with unknown credentials is a connection to the broker, and a slow broker keeps it open for seconds.
test('wrong credentials from a few addresses do not keep good callers out', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    // Never answers those whom it does not know.
    if (packet.cmd === 'connect') return packet.username !== 'good' || void peer
  })
  const bridge = await startBridge(
    { AUTH: 'broker', MQTT_URL: broker.url, MQTT_PROTOCOL: '5', ADMIN_PORT: 0 },
    { waitForBroker: false },
  )
  const statuses: number[] = []
  for (let address = 2; address <= 9; address += 1) {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      void publishFrom(bridge.url, `127.0.0.${address}`, `wrong ${address} ${attempt}`).then(
        (status) => void statuses.push(status),
        () => {},
      )
    }
  }
  // Those that are refused over the limit are answered at once; the others wait for the broker.
  await expect.poll(() => statuses.filter((status) => status === 503).length).toBeGreaterThanOrEqual(160 - 64)
  expect(await publishFrom(bridge.url, '127.0.0.1', 'good')).toBe(200)
})
