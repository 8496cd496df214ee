import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { expect, test } from 'vitest'
import { startBridge } from '../support/bridge.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

/** fetch sets Host by itself. */
async function statusFor(url: string, host: string, headers: Record<string, string> = {}): Promise<number> {
  const [response] = (await once(request(`${url}/openapi.json`, { headers: { ...headers, host }, agent: false }).end(), 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode!
}

test.each(['evil.example', 'evil.example:8080', 'localhost.evil.example', '127.0.0.1.evil.example', 'evil-localhost'])('on loopback without authentication it is not called %s', async (host) => {
  expect(await statusFor((await startBridge()).url, host)).toBe(421)
})

test('it is called localhost, by any address, and by the names it was given', async () => {
  const bridge = await startBridge({ HTTP_NAMES: 'bridge.test,Causeway' })
  for (const host of ['localhost', 'LOCALHOST:1', 'app.localhost', '127.0.0.1:8080', '[::1]:8080', '192.0.2.7', 'bridge.test:8080', 'causeway']) expect(await statusFor(bridge.url, host), host).toBe(200)
})

test('with authentication any name will do, as pages have no credentials', async () => {
  const bridge = await startBridge(tokenFile([makeToken('one', ['#'])]).settings)
  expect(await statusFor(bridge.url, 'bridge.example')).toBe(200)
})
