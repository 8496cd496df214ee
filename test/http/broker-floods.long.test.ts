import { describe, expect, test } from 'vitest'
import { metric, type Settings, startBridge } from '../support/bridge.ts'
import { basic, hasAccounts, startMosquittoWithAccounts } from '../support/accounts.ts'
import { startCuttingProxy } from '../support/cutting-proxy.ts'
import { publish } from '../support/http.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { openStream } from '../support/stream.ts'

const accounts = Object.fromEntries(['ann', 'bob', 'cyd'].map((name) => [name, { password: 'good' }]))
const good = (name: string) => basic(name, 'good')

/** A bridge behind a proxy that counts CONNECT packets by user name. */
async function start(settings: Settings = {}) {
  const broker = await startMosquittoWithAccounts(accounts)
  const connects: (string | undefined)[] = []
  const proxy = await startCuttingProxy(broker.url, (direction, packet) => {
    if (direction === 'up' && packet.cmd === 'connect' && packet.username !== undefined) connects.push(packet.username)
    return undefined
  })
  const bridge = await startBridge({
    AUTH: 'broker',
    MQTT_URL: proxy.url,
    MQTT_PROTOCOL: '5',
    ADMIN_PORT: 0,
    ...settings,
  })
  const status = async (headers: Record<string, string>) => (await publish(bridge, { topic: 'a' }, headers)).status
  return { bridge, connects, status }
}

describe.runIf(hasAccounts)('wrong credentials', () => {
  test('are asked of the broker once, however many requests have them', async () => {
    const { connects, status } = await start()
    const wrong = basic('ann', 'wrong')
    expect(new Set(await Promise.all(Array.from({ length: 100 }, () => status(wrong))))).toEqual(new Set([401]))
    for (let again = 0; again < 20; again += 1) expect(await status(wrong)).toBe(401)
    expect(connects).toHaveLength(1)
    expect(await status(good('ann'))).toBe(200)
  })

  test('are asked again once they are forgotten', async () => {
    const { connects, status } = await start({ AUTH_REFUSED_MS: 200 })
    expect(await status(basic('ann', 'wrong'))).toBe(401)
    await expect.poll(async () => [await status(basic('ann', 'wrong')), connects.length > 1]).toEqual([401, true])
  })

  test('that are new each time soon get no CONNECT any more, and callers who are in notice nothing', async () => {
    const { bridge, connects, status } = await start({ AUTH_REFUSED_MAX: 5 })
    expect(await status(good('ann'))).toBe(200)
    const before = connects.length
    for (let attempt = 0; attempt < 5; attempt += 1) expect(await status(basic('bob', `guess ${attempt}`))).toBe(401)
    const { body, headers } = await publish(bridge, { topic: 'a' }, basic('bob', 'guess 5'))
    expect(body).toMatchObject({ status: 429, code: 'too-many-attempts', retryable: true })
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    const flood = await Promise.all(
      Array.from({ length: 200 }, (_none, attempt) => status(basic('bob', `more ${attempt}`))),
    )
    expect(new Set(flood)).toEqual(new Set([429]))
    expect(connects.length - before).toBe(5)
    expect(await status(good('ann'))).toBe(200)
  })
})

describe.runIf(hasAccounts)('links', () => {
  test('of callers who do nothing make room for others', async () => {
    const { bridge, status } = await start({ LINK_MAX: 2 })
    for (const name of ['ann', 'bob', 'cyd', 'ann']) {
      expect([name, await status(good(name))]).toEqual([name, 200])
      expect(await metric(bridge, 'causeway_links')).toBeLessThanOrEqual(2)
    }
  })

  test('of callers who are there do not', async () => {
    const { bridge, status } = await start({ LINK_MAX: 2 })
    const [first, second] = [
      await openStream(`${bridge.url}/subscribe?topic=a`, good('ann')),
      await openStream(`${bridge.url}/subscribe?topic=a`, good('bob')),
    ]
    const { body } = await publish(bridge, { topic: 'a' }, good('cyd'))
    expect(body).toMatchObject({ status: 503, code: 'too-many-callers', retryable: true })
    expect(await status(good('ann'))).toBe(200)
    expect((await first.next()).data).toMatchObject({ topic: 'a' })
    second.close()
    await expect.poll(() => status(good('cyd'))).toBe(200)
    // Its stream is still open: the next event is what the new caller published.
    expect(await first.next()).toMatchObject({ event: 'message', data: { topic: 'a' } })
    expect(first.events).toHaveLength(2)
  })
})

test('credentials are tried a few at a time, and the rest of a flood is told to come back', async () => {
  const waiting: Peer[] = []
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || packet.username === undefined) return false
    waiting.push(peer)
    return true
  })
  const bridge = await startBridge({ AUTH: 'broker', MQTT_URL: broker.url, MQTT_PROTOCOL: '5' })
  const codes: string[] = []
  const flood = Array.from({ length: 40 }, async (_none, attempt) =>
    codes.push((await publish(bridge, { topic: 'a' }, basic('bob', `guess ${attempt}`))).body.code),
  )
  await expect.poll(() => [waiting.length, codes.length]).toEqual([8, 32])
  expect(new Set(codes)).toEqual(new Set(['too-many-callers']))
  for (const peer of waiting) peer.send({ cmd: 'connack', sessionPresent: false, reasonCode: 0x87 })
  await Promise.all(flood)
  expect(codes.slice(32)).toEqual(Array.from({ length: 8 }, () => 'unauthorized'))
})

test.each([
  [5, 0x86, 401, 'unauthorized'],
  [5, 0x87, 401, 'unauthorized'],
  [4, 4, 401, 'unauthorized'],
  [4, 5, 401, 'unauthorized'],
  [5, 0x89, 503, 'broker-unavailable'],
] as const)('over protocol %i the answer %i of the broker is %i %s', async (protocol, code, status, problem) => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect' || packet.username === undefined) return false
    peer.send({
      cmd: 'connack',
      sessionPresent: false,
      ...(protocol === 5 ? { reasonCode: code } : { returnCode: code }),
    } as never)
    return true
  })
  const bridge = await startBridge({
    AUTH: 'broker',
    MQTT_URL: broker.url,
    MQTT_PROTOCOL: protocol === 5 ? '5' : '3.1.1',
  })
  const { body } = await publish(bridge, { topic: 'a' }, good('ann'))
  expect(body).toMatchObject({ status, code: problem })
})

test('the bridge’s own credentials are never those of a caller', async () => {
  const broker = await startScriptedBroker(() => false)
  const bridge = await startBridge({
    AUTH: 'broker',
    MQTT_URL: broker.url,
    MQTT_USERNAME: 'bridge',
    MQTT_PASSWORD: 'secret of the bridge',
  })
  await publish(bridge, { topic: 'a' }, good('ann'))
  await publish(bridge, { topic: 'a' }, { authorization: 'Bearer token' })
  const logins = broker.peers
    .filter(({ received }) => received.some(({ cmd }) => cmd === 'publish'))
    .map(({ connect }) => [connect!.username, connect!.password?.toString()])
  expect(logins).toEqual([
    ['ann', 'good'],
    ['bearer', 'token'],
  ])
})
