import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type IncomingHttpHeaders } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { freePort } from '../../support/free-port.ts'
import { get, publish } from '../../support/http.ts'
import { type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'
import { openStream } from '../../support/stream.ts'

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))

/** Accepts MQTT over WebSockets without TLS, and passes it on to a broker. `upgrades` has the headers of each. */
async function startPlainWebSockets(brokerPort: number, host = '127.0.0.1') {
  const upgrades: IncomingHttpHeaders[] = []
  const server = createHttpServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket, request) => {
    upgrades.push(request.headers)
    const upstream = connect(brokerPort, '127.0.0.1')
    const stream = createWebSocketStream(socket)
    stream.pipe(upstream).pipe(stream)
    upstream.on('error', () => stream.destroy())
    stream.on('error', () => upstream.destroy()).once('close', () => upstream.destroy())
  })
  server.listen(0, host)
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, upgrades, sockets }
}

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-addresses-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

test.skipIf(!hasIpv6)('a WebSocket at an IPv6 address is connected to', async () => {
  const broker = await startScriptedBroker(() => {})
  const { port } = await startPlainWebSockets(broker.port, '::1')
  const bridge = await startBridge({ MQTT_URL: `ws://[::1]:${port}/mqtt` })
  expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
  expect(bridge.logs.map(({ msg }) => msg)).toContain(`connected to ws://[::1]:${port}/mqtt, MQTT 5`)
})

test('a Unix socket is connected to', async () => {
  const broker = await startScriptedBroker(() => {})
  const path = join(temporaryDirectory(), 'mqtt socket')
  const server = createServer((socket) => {
    const upstream = connect(broker.port, '127.0.0.1')
    socket.pipe(upstream).pipe(socket)
    socket.on('error', () => upstream.destroy()).once('close', () => upstream.destroy())
    upstream.on('error', () => socket.destroy()).once('close', () => socket.destroy())
  }).listen(path)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const bridge = await startBridge({ MQTT_URL: `mqtt+unix://${path.replace(' ', '%20')}` })
  expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
  expect(bridge.logs.map(({ msg }) => msg)).toContain(`connected to mqtt+unix://${path}, MQTT 5`)
})

test('a Unix socket that is not there is named', async () => {
  const path = join(temporaryDirectory(), 'none')
  const bridge = await startBridge({ MQTT_URL: `mqtt+unix://${path}` }, { waitForBroker: false })
  expect((await get(bridge, '/readyz')).body.detail).toContain(
    `mqtt+unix://${path} over MQTT 5: There is no connection to the broker: there is no such socket (ENOENT)`,
  )
})

describe('headers for the WebSocket upgrade', () => {
  test('are sent with each upgrade, as the file is at the last SIGHUP, and are in no log', async () => {
    const broker = await startScriptedBroker(() => {})
    const { port, upgrades, sockets } = await startPlainWebSockets(broker.port)
    const file = join(temporaryDirectory(), 'headers')
    writeFileSync(file, 'Authorization: Bearer one-secret\r\nX-Tenant: a:b\n\n')
    const bridge = await startBridge({ MQTT_URL: `ws://127.0.0.1:${port}`, MQTT_WS_HEADERS_FILE: file })
    expect(upgrades[0]).toMatchObject({ authorization: 'Bearer one-secret', 'x-tenant': 'a:b' })
    writeFileSync(file, 'not a header')
    bridge.reload()
    writeFileSync(file, 'Authorization: Bearer two-secret\n')
    bridge.reload()
    for (const socket of sockets.clients) socket.terminate()
    await expect.poll(() => upgrades.at(-1)).toMatchObject({ authorization: 'Bearer two-secret' })
    const log = JSON.stringify(bridge.logs)
    expect(log).toContain('expected a header as Name: value in line 1, got none; the files read before stay in use')
    expect(log).not.toMatch(/-secret|not a header/)
  })

  test.each([
    ['Host: x', 'expected no header of the upgrade itself, got Host in line 1'],
    ['a: b\nbad name: x', 'expected a header as Name: value in line 2, got none'],
    ['a: b\u0001', 'expected a header as Name: value in line 1, got none'],
  ])('%j is refused at the start', async (text, fault) => {
    const file = join(temporaryDirectory(), 'headers')
    writeFileSync(file, text)
    const settings = { MQTT_URL: 'ws://127.0.0.1:1', MQTT_WS_HEADERS_FILE: file }
    await expect(startBridge(settings)).rejects.toThrow(`CAUSEWAY_MQTT_WS_HEADERS_FILE ${file}: ${fault}`)
  })
})

test('an upgrade that is refused is reported as that, and is no reason to leave MQTT 5', async () => {
  const server = createHttpServer().listen(0, '127.0.0.1')
  server.on('upgrade', (_request, socket) => {
    // The client may reset the connection when the test ends.
    socket.on('error', () => {}).end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n')
  })
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  const bridge = await startBridge({ MQTT_URL: url }, { waitForBroker: false })
  expect((await get(bridge, '/readyz')).body.detail).toContain('over MQTT 5: There is no connection to the broker: Une')
})

describe.runIf(hasMosquitto)('several addresses', () => {
  test('are tried in order, all connections go to the same one, and the next one when it fails', async () => {
    const first = `mqtt://127.0.0.1:${await freePort()}`
    const [second, third] = [await startMosquitto(), await startMosquitto()]
    const bridge = await startBridge({ MQTT_URL: `${first},${second.url},${third.url}` })
    const said = () => bridge.logs.map(({ msg }) => String(msg)).filter((msg) => msg.startsWith('connected to'))
    expect(said()).toEqual([`connected to ${second.url}, MQTT 5`])
    expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&retained=false`)
    await second.kill()
    await expect.poll(() => said().at(-1), { timeout: 20_000 }).toBe(`connected to ${third.url}, MQTT 5`)
    await expect.poll(() => bridge.isReachable(), { timeout: 20_000 }).toBe(true)
    const used = async () => {
      const { connections } = (await get(bridge, '/readyz?verbose')).body
      return new Set(connections.map(({ address, state }: Record<string, string>) => `${state} ${address}`))
    }
    await expect.poll(used, { timeout: 20_000 }).toEqual(new Set([`connected ${third.url}`]))
    expect((await publish(bridge, { topic: 'a', payload: 'x' })).status).toBe(200)
    await expect.poll(() => stream.events.map(({ data }) => data.payload)).toContain('x')
    await third.kill()
    await second.start()
    // The log says the same line once in a second, so it may say this one late.
    await expect.poll(used, { timeout: 20_000 }).toEqual(new Set([`connected ${second.url}`]))
  })

  test('with credentials of their own: each broker gets only its own', async () => {
    const away = await freePort()
    const broker = await startScriptedBroker(() => {})
    await startBridge({ MQTT_URL: `mqtt://a:one@127.0.0.1:${away},mqtt://b:t%2Cwo@127.0.0.1:${broker.port}` })
    const logins = broker.peers.map(({ connect }: Peer) => `${connect?.username}:${connect?.password?.toString()}`)
    expect(new Set(logins)).toEqual(new Set(['b:t,wo']))
  })
})
