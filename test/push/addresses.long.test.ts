import { expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { startNameServer } from '../support/name-server.ts'
import { pushFile, startEndpoint, untilPush } from '../support/push-endpoint.ts'

test('a new connection goes to the address that the name has by then', async () => {
  const first = await startEndpoint()
  const second = await startEndpoint(undefined, { host: '127.0.0.2', port: first.port })
  const names = await startNameServer('127.0.0.1')
  const url = `http://hook.test:${first.port}/hook`
  const { path } = pushFile([{ name: 'hook', topics: ['a'], url, retryMaxMs: 50 }])
  const bridge = spawnBridge({ PUSH_FILE: path }, { environment: names.environment })
  const adminUrl = await bridge.url
  await untilPush({ adminUrl })
  const send = (body: string) => fetch(`${adminUrl}/publish?topic=a`, { method: 'POST', body })
  await send('one')
  const [request] = await first.take(1)
  expect(request!.headers['host']).toBe(`hook.test:${first.port}`)
  names.address = '127.0.0.2'
  // A connection that is open stays where it is.
  await send('two')
  await first.take(2)
  const askedBefore = names.asked
  await first.stop()
  await send('three')
  await second.take(1)
  expect(second.payloads()).toEqual(['three'])
  expect(names.asked).toBeGreaterThan(askedBefore)
})
