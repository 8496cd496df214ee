import { describe, expect, test } from 'vitest'
import { referredUrl } from '../../../src/mqtt/connection/server-reference.ts'
import { startBridge } from '../../support/bridge.ts'
import { get, publish } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

describe('a server reference', () => {
  test.each([
    ['other.example', 'mqtt://one:1884', 'mqtt://other.example'],
    ['other.example:1885', 'mqtts://one', 'mqtts://other.example:1885'],
    ['[::1]:1885', 'mqtt://one', 'mqtt://[::1]:1885'],
    ['mqtt://other.example:1885', 'mqtt://one', 'mqtt://other.example:1885'],
    ['a.example:1 b.example:2', 'mqtt://one', 'mqtt://a.example:1'],
    ['other.example', 'wss://one:1884/mqtt?x=1', 'wss://other.example/mqtt?x=1'],
  ])('%s from %s is %s', (reference, from, url) => {
    expect(referredUrl(reference, from)).toBe(url)
  })

  test.each([
    ['mqtt://other.example', 'mqtts://one'],
    ['user@other.example', 'mqtt://one'],
    ['other.example:99999', 'mqtt://one'],
    ['', 'mqtt://one'],
    ['::1', 'mqtt://one'],
    ['one:1884', 'mqtt://one:1884'],
    ['other.example', 'mqtt+unix:///run/mqtt'],
  ])('%s from %s is followed nowhere', (reference, from) => {
    expect(referredUrl(reference, from)).toBeUndefined()
  })
})

const startReferring = (reference: string, reasonCode = 0x9c) =>
  startScriptedBroker(({ cmd }, peer) => {
    if (cmd !== 'connect') return false
    peer.send({ cmd: 'connack', sessionPresent: false, reasonCode, properties: { serverReference: reference } })
    peer.close()
    return true
  })

test.each([0x9c, 0x9d])('the server that CONNACK %i names is connected to', async (reasonCode) => {
  const other = await startScriptedBroker(() => {})
  const broker = await startReferring(`127.0.0.1:${other.port}`, reasonCode)
  const bridge = await startBridge({ MQTT_URL: broker.url.replace('//', '//ann:secret@') })
  expect((await publish(bridge, { topic: 'a' })).status).toBe(200)
  expect(other.peers[0]!.connect).toMatchObject({ username: 'ann', password: Buffer.from('secret') })
  expect(bridge.logs.map(({ msg }) => msg)).toContain(
    `mqtt://127.0.0.1:${broker.port} names another server: "127.0.0.1:${other.port}"; connecting to that one`,
  )
})

test('so is the one that DISCONNECT names', async () => {
  const other = await startScriptedBroker(() => {})
  const broker = await startScriptedBroker(() => {})
  const bridge = await startBridge({ MQTT_URL: broker.url, PUBLISH_CONNECTIONS: 1 })
  for (const peer of broker.peers) {
    peer.send({ cmd: 'disconnect', reasonCode: 0x9d, properties: { serverReference: `127.0.0.1:${other.port}` } })
    peer.close()
  }
  await expect.poll(async () => (await publish(bridge, { topic: 'a' })).status, { timeout: 10_000 }).toBe(200)
  await expect.poll(() => other.peers.some(({ received }) => received.some(({ cmd }) => cmd === 'publish'))).toBe(true)
})

test('a second reference is named and not followed', async () => {
  const third = await startScriptedBroker(() => {})
  const second = await startReferring(`127.0.0.1:${third.port}`)
  const first = await startReferring(`127.0.0.1:${second.port}`)
  const bridge = await startBridge({ MQTT_URL: first.url }, { waitForBroker: false })
  const { status, body } = await get(bridge, '/readyz')
  expect(status).toBe(503)
  expect(body.detail).toMatch(/Use another server \("127\.0\.0\.1:\d+"\)/)
  expect(second.peers.length).toBeGreaterThan(0)
  expect(third.peers).toEqual([])
})
