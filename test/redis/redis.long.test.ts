import { Redis as Client } from 'ioredis'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Bridge, metric, type Settings, startBridge } from '../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { createAuthority, hasOpenssl } from '../support/certificates.ts'
import { type Answer, get, publishRaw, send } from '../support/http.ts'
import { collect, mqttClient } from '../support/mqtt-client.ts'
import { hasRedis, type RedisServer, type RedisServerOptions, startRedis } from '../support/redis.ts'
import { startResponder } from '../support/responder.ts'
import { isPublisher, type ScriptedBroker, startScriptedBroker } from '../support/scripted-broker.ts'
import { makeToken, tokenFile } from '../support/token-file.ts'

const WAIT = { timeout: 10_000 }

function post(bridge: Bridge, key: string, body = 'x', query = 'topic=i'): Promise<Answer> {
  return publishRaw(bridge, query, body, { 'idempotency-key': key })
}

const isReplayed = ({ headers }: Answer) => headers.get('idempotency-replayed') === 'true'

async function twoReplicas(settings: Settings, options: RedisServerOptions = {}) {
  const redis = await startRedis(options)
  const all = { REDIS_URL: redis.url, ...settings }
  const [one, two] = await Promise.all([startBridge(all), startBridge(all)])
  return { redis, one, two }
}

const isThere = (bridge: Bridge) => metric(bridge, 'causeway_redis_reachable')
const told = ({ logs }: Bridge, text: string) => logs.filter(({ msg }) => String(msg).includes(text)).length

/** Acknowledges the publishes that the script has held back. */
function acknowledgeAll({ peers }: ScriptedBroker): void {
  for (const peer of peers.filter(isPublisher)) {
    for (const packet of peer.received) {
      if (packet.cmd === 'publish') peer.send({ cmd: 'puback', messageId: packet.messageId! })
    }
  }
}

async function hasPublish({ peers }: ScriptedBroker): Promise<void> {
  const isSent = () => peers.some((peer) => isPublisher(peer) && peer.received.some(({ cmd }) => cmd === 'publish'))
  await expect.poll(isSent, WAIT).toBe(true)
}

async function clientOf({ url }: RedisServer): Promise<Client> {
  const client = new Client(url)
  onTestFinished(() => client.disconnect())
  return client
}

describe.runIf(hasRedis && hasMosquitto)('an Idempotency-Key in Redis', () => {
  test('is the same at every replica, and makes one message', async () => {
    const { url } = await startMosquitto()
    const { one, two } = await twoReplicas({ MQTT_URL: url })
    const messages = await collect(await mqttClient(url), 'i')
    const first = await post(one, 'k')
    const second = await post(two, 'k')
    expect([first.status, isReplayed(first)]).toEqual([200, false])
    expect([second.status, second.body, isReplayed(second)]).toEqual([200, first.body, true])
    expect(await post(two, 'k', 'y')).toMatchObject({ status: 422, body: { code: 'idempotency-mismatch' } })
    const many = await Promise.all(Array.from({ length: 20 }, (_, index) => post(index % 2 ? one : two, 'many', 'm')))
    expect(many.filter(({ status }) => status === 200).length).toBeGreaterThan(0)
    expect(many.filter((answer) => answer.status === 200 && !isReplayed(answer)).length).toBe(1)
    expect(many.filter(({ status }) => status !== 200 && status !== 409)).toEqual([])
    await post(one, 'end', 'end')
    await expect.poll(() => messages.packets.map(({ payload }) => payload.toString())).toEqual(['x', 'm', 'end'])
  })

  test('gives the reply to a request again, byte for byte', async () => {
    const { url } = await startMosquitto()
    const { one, two } = await twoReplicas({ MQTT_URL: url })
    let asked = 0
    const bytes = Buffer.from([0, 255, 10, 13, 128])
    await startResponder(url, 'ask', (_payload, reply) => {
      asked += 1
      reply(bytes as never, { contentType: 'x/y', userProperties: { a: 'b' } })
    })
    const ask = async (bridge: Bridge) => {
      const headers = { 'idempotency-key': 'r' }
      const response = await fetch(`${bridge.url}/request?topic=ask`, { method: 'POST', body: 'q', headers })
      return { bytes: Buffer.from(await response.arrayBuffer()), headers: response.headers }
    }
    const first = await ask(one)
    const second = await ask(two)
    expect([first.bytes, second.bytes]).toEqual([bytes, bytes])
    expect(second.headers.get('content-type')).toBe(first.headers.get('content-type'))
    expect(asked).toBe(1)
  })

  test('is answered with an unknown outcome after the replica that ran it has ended', async () => {
    const broker = await startScriptedBroker((packet, peer) => packet.cmd === 'publish' && isPublisher(peer))
    const { redis, one, two } = await twoReplicas({ MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 60_000 })
    const client = await clientOf(redis)
    const running = post(one, 'k')
    await hasPublish(broker)
    expect((await post(two, 'k')).status).toBe(409)
    // As Redis does ten seconds after the last renewal.
    for (const lease of await client.keys('*:lease')) await client.del(lease)
    expect(await post(two, 'k')).toMatchObject({
      status: 502,
      body: { code: 'publish-interrupted', outcome: 'unknown' },
    })
    // It had not ended: it renews its lease, and its answer counts.
    await expect.poll(async () => (await post(two, 'k')).status, WAIT).toBe(409)
    acknowledgeAll(broker)
    expect(await running).toMatchObject({ status: 200 })
    const again = await post(two, 'k')
    expect([again.status, isReplayed(again)]).toEqual([200, true])
  })

  test.each([
    ['killed', (redis: RedisServer) => redis.kill(), (redis: RedisServer) => redis.start()],
    ['frozen', async (redis: RedisServer) => redis.freeze(), async (redis: RedisServer) => redis.thaw()],
  ])('is a 503 while Redis is %s, and all else goes on', async (_what, stop, resume) => {
    const { url } = await startMosquitto()
    const { redis, one, two } = await twoReplicas({ MQTT_URL: url, RATE_ADDRESS: 1_000_000 }, { persistence: true })
    const messages = await collect(await mqttClient(url), 'i')
    expect((await post(one, 'before')).status).toBe(200)
    await stop(redis)
    for (const bridge of [one, two]) {
      const refused = await post(bridge, 'k')
      expect(refused).toMatchObject({
        status: 503,
        body: { code: 'idempotency-unavailable', outcome: 'not-sent', retryable: true },
      })
      expect(refused.headers.get('retry-after')).toBe('1')
      expect((await publishRaw(bridge, 'topic=i', 'without')).status).toBe(200)
      expect(await get(bridge, '/readyz?verbose')).toMatchObject({
        status: 200,
        body: { redis: { state: 'away', reason: expect.any(String) } },
      })
      expect(await isThere(bridge)).toBe(0)
    }
    await resume(redis)
    for (const bridge of [one, two]) {
      await expect.poll(() => isThere(bridge), WAIT).toBe(1)
      expect(told(bridge, 'is away: requests')).toBe(1)
      expect(told(bridge, 'has lost its data')).toBe(0)
      expect(await get(bridge, '/readyz?verbose')).toMatchObject({ body: { redis: { state: 'connected' } } })
    }
    expect(isReplayed(await post(two, 'before'))).toBe(true)
    // The key of a request that was refused is free.
    await expect.poll(async () => (await post(two, 'k', 'x')).status, WAIT).toBe(200)
    await expect
      .poll(() => messages.packets.map(({ payload }) => payload.toString()))
      .toEqual(['x', 'without', 'without', 'x'])
  })

  test('has its first answer even if Redis was away when that came', async () => {
    let isHeld = true
    const broker = await startScriptedBroker((packet, peer) => packet.cmd === 'publish' && isPublisher(peer) && isHeld)
    const { redis, one, two } = await twoReplicas({ MQTT_URL: broker.url }, { persistence: true })
    const running = post(one, 'k')
    await hasPublish(broker)
    await redis.kill()
    isHeld = false
    acknowledgeAll(broker)
    expect((await running).status).toBe(200)
    await redis.start()
    await expect.poll(async () => isReplayed(await post(two, 'k')), WAIT).toBe(true)
  })

  test('is forgotten if Redis loses its data, which the log says', async () => {
    const { redis, one } = await twoReplicas({})
    await post(one, 'k')
    await redis.kill()
    await redis.start()
    await expect.poll(() => told(one, 'has lost its data'), WAIT).toBe(1)
    expect(isReplayed(await post(one, 'k'))).toBe(false)
  })

  test('makes room for a newer one of the same caller alone', async () => {
    const [busy, other] = [makeToken('busy', ['#']), makeToken('other', ['#'])]
    const settings = { ...tokenFile([busy, other]).settings, IDEMPOTENCY_KEYS_MAX_IDENTITY: 2 }
    const { redis, one } = await twoReplicas(settings)
    const by = ({ headers }: typeof busy, key: string) =>
      publishRaw(one, 'topic=i', 'x', { ...headers, 'idempotency-key': key })
    for (const key of ['a', 'b', 'c']) await by(busy, key)
    await by(other, 'a')
    expect(isReplayed(await by(busy, 'c'))).toBe(true)
    expect(isReplayed(await by(busy, 'a'))).toBe(false)
    expect(isReplayed(await by(other, 'a'))).toBe(true)
    const client = await clientOf(redis)
    const names = await client.keys('*')
    expect(names.filter((name) => !/^causeway:(began|key:|rate:)/.test(name))).toEqual([])
    expect(names.join()).not.toContain('busy')
    // Every key ends by itself.
    for (const name of names.filter((each) => !each.endsWith('began'))) {
      expect(await client.pttl(name)).toBeGreaterThan(0)
    }
  })
})

describe.runIf(hasRedis)('a limit in Redis', () => {
  test('is one for all replicas, and one for each while Redis is away', async () => {
    const caller = makeToken('caller', ['#'], ['#'], { rate: 1 })
    const { redis, one, two } = await twoReplicas(tokenFile([caller]).settings)
    /** The answers of both replicas, one right after the other. */
    async function both(): Promise<Answer[]> {
      for (;;) {
        const beganAt = performance.now()
        const answers = [await get(one, '/sessions', caller.headers), await get(two, '/sessions', caller.headers)]
        if (performance.now() - beganAt < 800) return answers
      }
    }
    await expect.poll(async () => (await both()).map(({ status }) => status), WAIT).toEqual([200, 429])
    const [, refused] = await both()
    expect(refused!.headers.get('ratelimit')).toBe('"identity";r=0;t=1')
    await redis.kill()
    await expect.poll(async () => (await both()).map(({ status }) => status), WAIT).toEqual([200, 200])
  })
})

test.runIf(hasRedis && hasOpenssl)('Redis is reached over TLS with a password', async () => {
  const authority = createAuthority()
  onTestFinished(() => authority.remove())
  const { cert, key } = authority.issue('redis')
  const { url } = await startRedis({
    tls: true,
    args:
      `--tls-cert-file ${cert} --tls-key-file ${key} --tls-ca-cert-file ${authority.caFile} ` +
      '--tls-auth-clients no --requirepass wrong:horse',
  })
  const withPassword = url.replace('://', '://:wrong%3Ahorse@')
  const bridge = await startBridge({ REDIS_URL: withPassword, REDIS_CA_FILE: authority.caFile })
  expect((await post(bridge, 'k')).status).toBe(200)
  expect(isReplayed(await post(bridge, 'k'))).toBe(true)
  expect(JSON.stringify(bridge.logs)).not.toContain('horse')
  const stranger = await startBridge({ REDIS_URL: withPassword })
  expect(await send(stranger, 'GET', '/readyz?verbose')).toMatchObject({
    body: { redis: { state: 'away', reason: expect.stringContaining('certificate') } },
  })
})
