import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { isPublisher, startScriptedBroker } from '../support/scripted-broker.ts'

const post = (url: string, topic: string) => fetch(`${url}/publish?topic=${topic}`, { method: 'POST', body: 'x' })

function openSocket(url: string): { socket: Socket; answer(): string } {
  let answer = ''
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    answer += chunk
  })
  return { socket, answer: () => answer }
}

async function canConnect(url: string): Promise<boolean> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

describe('the process', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('exits with 0 on %s', async (signal) => {
    const bridge = spawnBridge()
    expect((await post(await bridge.url, 'a')).status).toBe(200)
    bridge.kill(signal)
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    expect(bridge.stdout()).toContain('"msg":"shut down"')
  })

  test('answers publishes in flight before it exits, refuses new ones and disconnects from the broker', async () => {
    let answer: (() => void) | undefined
    const broker = await startScriptedBroker((packet, peer) => {
      if (packet.cmd !== 'publish' || !isPublisher(peer)) return false
      answer = () => peer.send({ cmd: 'puback', messageId: packet.messageId! })
      return true
    })
    const bridge = spawnBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1, ADMIN_PORT: 0 })
    await bridge.url
    const url = /'(http:\S+)\/publish/.exec(bridge.stdout())![1]!
    const inFlight = openSocket(url)
    const late = openSocket(url)
    late.socket.write('POST /publish?topic=b HTTP/1.1\r\n')
    inFlight.socket.write('POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx')
    await expect.poll(() => answer).toBeDefined()
    bridge.kill('SIGTERM')
    await expect.poll(async () => (await fetch(`${await bridge.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${await bridge.url}/livez`)).status).toBe(200)
    // Until its listener is closed, the bridge takes publishes.
    await expect.poll(() => canConnect(url)).toBe(false)
    late.socket.write('Host: localhost\r\nContent-Length: 1\r\n\r\nx')
    await once(late.socket, 'close')
    expect(late.answer()).toMatch(/^HTTP\/1.1 503 [^]*application\/problem\+json[^]*"code":"shutting-down"/)
    answer!()
    await once(inFlight.socket, 'close')
    expect(inFlight.answer()).toMatch(/^HTTP\/1.1 200 OK/)
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    const live = broker.peers.filter(({ connect: packet }) => packet?.clean === false)
    expect(live.length).toBeGreaterThanOrEqual(2)
    for (const { received } of live) expect(received.at(-1)).toMatchObject({ cmd: 'disconnect' })
  })

  test('says how many publishes the broker has not answered', async () => {
    const broker = await startScriptedBroker((packet, peer) => packet.cmd === 'publish' && isPublisher(peer))
    const bridge = spawnBridge({ MQTT_URL: broker.url, SHUTDOWN_MS: 1000, PUBLISH_TIMEOUT_MS: 200 })
    const url = await bridge.url
    // Its caller has an answer, and nobody knows whether the broker has the message.
    expect((await post(url, 'a')).status).toBe(504)
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    expect(bridge.stdout()).toContain('"unanswered":1,"msg":"publishes that stayed unanswered: 1')
  })

  test('exits with 0 and disconnects from the broker in spite of a request that never ends', async () => {
    const broker = await startScriptedBroker(() => {})
    const bridge = spawnBridge({ MQTT_URL: broker.url, SHUTDOWN_MS: 1000 })
    const socket = connect(Number(new URL(await bridge.url).port), '127.0.0.1')
    socket.on('error', () => {})
    socket.write('POST /publish?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx')
    await expect.poll(async () => (await fetch(`${await bridge.url}/livez`)).status).toBe(200)
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    expect(bridge.stdout()).not.toContain('not everything finished')
    const live = broker.peers.filter(({ connect: packet }) => packet?.clean === false)
    expect(live.map(({ received }) => received.at(-1)!.cmd)).toEqual(live.map(() => 'disconnect'))
  })

  test('exits with 1 at once on a second signal', async () => {
    const broker = await startScriptedBroker((packet, peer) => packet.cmd === 'publish' && isPublisher(peer))
    const bridge = spawnBridge({ MQTT_URL: broker.url, SHUTDOWN_MS: 600_000, PUBLISH_TIMEOUT_MS: 600_000 })
    const publishing = post(await bridge.url, 'a').catch(() => 'cut')
    await expect
      .poll(async () =>
        (await (await fetch(`${await bridge.url}/metrics`)).text()).includes('causeway_publish_in_flight 1'),
      )
      .toBe(true)
    bridge.kill('SIGTERM')
    await expect.poll(() => bridge.stdout()).toContain('shutting down')
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 1, signal: null })
    expect(await publishing).toBe('cut')
  })

  test('exits with 0 on a signal while it starts', async () => {
    const silent = await startScriptedBroker(({ cmd }) => cmd === 'connect')
    const bridge = spawnBridge({ MQTT_URL: silent.url, SHUTDOWN_MS: 1000 })
    await expect.poll(() => silent.peers.length, { timeout: 10_000 }).toBeGreaterThan(0)
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
  })
})

describe.runIf(hasMosquitto).each(['5', '3.1.1'])('with the broker frozen, over MQTT %s', (protocol) => {
  test('it exits with 0, with a publish in flight', async () => {
    const broker = await startMosquitto()
    const bridge = spawnBridge({
      MQTT_URL: broker.url,
      MQTT_PROTOCOL: protocol,
      SHUTDOWN_MS: 2000,
      PUBLISH_TIMEOUT_MS: 600_000,
    })
    const url = await bridge.url
    broker.freeze()
    const publishing = post(url, 'a').catch(() => 'cut')
    await expect
      .poll(async () => (await (await fetch(`${url}/metrics`)).text()).includes('causeway_publish_in_flight 1'))
      .toBe(true)
    bridge.kill('SIGTERM')
    expect(await bridge.exited).toEqual({ code: 0, signal: null })
    expect(await publishing).toBe('cut')
  })
})
