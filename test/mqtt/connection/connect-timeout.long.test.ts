import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { basic } from '../../support/accounts.ts'
import { startBridge } from '../../support/bridge.ts'
import { get, publish, send } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

/** A server that accepts connections and never sends anything. */
async function startSilentServer(): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).resume()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

test.each([
  ['mqtt', 'it did not answer CONNECT within 400 ms'],
  ['mqtts', 'it could not be reached within 400 ms'],
  ['ws', 'it could not be reached within 400 ms'],
])('a server that says nothing over %s: is given up after the connect timeout', async (scheme, why) => {
  const port = await startSilentServer()
  const bridge = await startBridge(
    { MQTT_URL: `${scheme}://127.0.0.1:${port}`, MQTT_PROTOCOL: '5', MQTT_CONNECT_TIMEOUT_MS: 400 },
    { waitForBroker: false },
  )
  const { status, body } = await get(bridge, '/readyz')
  expect([status, body.detail]).toEqual([
    503,
    `The bridge is not connected to its broker ${scheme}://127.0.0.1:${port} over MQTT 5: ` +
      `There is no connection to the broker: ${why}; nothing was sent`,
  ])
})

/** A broker that takes three seconds to refuse a password, as RabbitMQ 4 does. */
const startSlowRefusal = () =>
  startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect') return false
    setTimeout(() => {
      peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x86 })
      peer.close()
    }, 3000)
    return true
  })

test('a bridge whose password is refused after three seconds says that from the first request on', async () => {
  const broker = await startSlowRefusal()
  const bridge = await startBridge({ MQTT_URL: broker.url }, { waitForBroker: false })
  expect((await publish(bridge, { topic: 'a' })).body).toMatchObject({
    code: 'bridge-refused',
    mqtt: { reasonCode: 0x86, reason: 'Bad user name or password' },
  })
})

test('a caller whose password the broker refuses after three seconds gets 401', async () => {
  const broker = await startSlowRefusal()
  const bridge = await startBridge({ MQTT_URL: broker.url, AUTH: 'broker' }, { waitForBroker: false })
  expect((await send(bridge, 'POST', '/publish?topic=a', basic('ann', 'wrong'), 'x')).status).toBe(401)
})
