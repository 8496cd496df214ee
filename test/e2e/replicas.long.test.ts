import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Settings } from '../support/bridge.ts'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { DEPLOYED_PROXIES, startDeployedProxy } from '../support/deployed-proxy.ts'
import { consumers, startConsumer } from '../support/example.ts'
import { freePort } from '../support/free-port.ts'
import { mqttClient } from '../support/mqtt-client.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import { openStream } from '../support/stream.ts'

const CONSUMER = consumers()[0]!
const MESSAGES = 300
const PUBLISHERS = 4
/** Between two messages of a publisher: the consumers process one after the other. */
const PAUSE_MS = 50
const SECRET = 'the same at every replica, 32 or more'

interface Replica {
  port: number
  process: BridgeProcess
  start(): Promise<void>
  /** How many publishes the broker has acknowledged to it. */
  published(): Promise<number>
}

async function startReplica(settings: Settings): Promise<Replica> {
  const port = await freePort()
  const replica: Replica = {
    port,
    process: spawnBridge({ ...settings, HTTP_PORT: port }),
    async start() {
      replica.process = spawnBridge({ ...settings, HTTP_PORT: port })
      await replica.process.url
    },
    async published() {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
      return Number(/causeway_publish_ack_seconds_count\{qos="1"\} (\d+)/.exec(text)![1])
    },
  }
  await replica.process.url
  return replica
}

/** Two bridges, one Mosquitto and one redis-server. */
async function startReplicas() {
  const [broker, redis] = await Promise.all([
    startMosquitto({ config: ['max_queued_messages 0'] }),
    startRedis({ persistence: true }),
  ])
  const settings = {
    MQTT_URL: broker.url,
    REDIS_URL: redis.url,
    SESSION_SECRET: SECRET,
    DRAIN_MS: 2000,
    BROKER_QUEUE_MAX: 0,
  }
  const [one, two] = await Promise.all([startReplica(settings), startReplica(settings)])
  const witness = await mqttClient(broker.url)
  const seen = new Map<string, number>()
  witness.on('message', (_topic, payload) => seen.set(`${payload}`, (seen.get(`${payload}`) ?? 0) + 1))
  await witness.subscribeAsync('orders/#', { qos: 1 })
  return { redis, one, two, seen }
}

/** Resolves once a session has its reader at one of them. */
async function hasReader(replicas: Replica[]): Promise<void> {
  const readers = async () => {
    const lists = await Promise.all(
      replicas.map(async ({ port }) => (await fetch(`http://127.0.0.1:${port}/sessions`)).json()),
    )
    return (lists.flat() as { connected: boolean }[]).filter(({ connected }) => connected).length
  }
  await expect.poll(readers, { timeout: 20_000 }).toBe(1)
}

/** Sends one message; 0 where there was no answer. */
async function post(url: string, body: string, headers: Record<string, string> = {}): Promise<[number, string]> {
  try {
    const response = await fetch(`${url}/publish?topic=orders/1`, { method: 'POST', body, headers })
    return [response.status, await response.text()]
  } catch (error) {
    return [0, String(error)]
  }
}

/** Publishes until `stop`, and resolves with what came of each message. */
function publishAll(send: (body: string) => Promise<string>) {
  const outcomes = new Map<string, string>()
  let isStopped = false
  const running = Array.from({ length: PUBLISHERS }, async (_, publisher) => {
    for (let number = 0; !isStopped; number += 1) {
      const body = `${publisher}-${number}`
      outcomes.set(body, await send(body))
      await delay(PAUSE_MS)
    }
  })
  return {
    outcomes,
    async stop() {
      isStopped = true
      await Promise.all(running)
      return outcomes
    },
  }
}

describe.runIf(hasMosquitto && hasRedis).each(DEPLOYED_PROXIES)('two bridges behind $name', (proxy) => {
  test(
    'a consumer processes 300 messages once, and each acknowledgement arrives at the bridge that has its stream',
    { timeout: 180_000 },
    async () => {
      const { one, two } = await startReplicas()
      const url = await startDeployedProxy(proxy, [one.port, two.port])
      const consumer = startConsumer(CONSUMER, url)
      await hasReader([one, two])
      const bodies = Array.from({ length: MESSAGES }, (_, number) => `${number}`)
      for (const body of bodies) expect((await post(url, body))[0]).toBe(200)
      await expect
        .poll(() => consumer.lines().length, { timeout: 60_000, interval: 100 })
        .toBeGreaterThanOrEqual(MESSAGES)
      expect(consumer.output().trim().split(/ *\n/)).toEqual(bodies.map((body) => `orders/1 ${body}`))
    },
  )

  test('a rolling restart under load fails no publish, and a stream comes back', { timeout: 180_000 }, async () => {
    const { one, two, seen } = await startReplicas()
    const url = await startDeployedProxy(proxy, [one.port, two.port])
    const consumer = startConsumer(CONSUMER, url)
    await hasReader([one, two])
    // Caddy tries a POST again only if it has a key.
    const keyed = (body: string) => (proxy.name === 'Caddy' ? { 'idempotency-key': `"${body}"` } : {})
    const load = publishAll(async (body) => (await post(url, body, keyed(body))).join(' '))
    for (const replica of [one, two]) {
      await expect.poll(() => replica.published(), { timeout: 20_000 }).toBeGreaterThan(50)
      replica.process.kill('SIGTERM')
      expect(await replica.process.exited).toEqual({ code: 0, signal: null })
      await replica.start()
      await expect.poll(() => replica.published(), { timeout: 20_000 }).toBeGreaterThan(50)
    }
    const outcomes = await load.stop()
    const published = [...outcomes].filter(([, outcome]) => outcome.startsWith('200')).map(([body]) => body)
    const failed = [...outcomes].filter(([, outcome]) => !outcome.startsWith('200'))
    expect(failed).toEqual([])
    expect(published.length).toBeGreaterThan(0.99 * outcomes.size)
    await expect.poll(() => seen.size, { timeout: 20_000 }).toBe(published.length)
    const stream = await openStream(`${url}/subscribe?topic=orders/1`)
    expect(stream.status).toBe(200)
    // The consumer may have had some twice, and has missed none.
    const missing = () => {
      const processed = new Set(consumer.lines().map((line) => line.split(' ')[1]))
      return published.filter((body) => !processed.has(body))
    }
    await expect.poll(missing, { timeout: 90_000, interval: 200 }).toEqual([])
  })
})

const [balancer] = DEPLOYED_PROXIES

describe.runIf(hasMosquitto && hasRedis && balancer !== undefined)('under load, with an Idempotency-Key', () => {
  test(
    'no message is published twice, whichever of a replica and Redis is killed or frozen',
    { timeout: 240_000 },
    async () => {
      const { redis, one, two, seen } = await startReplicas()
      const url = await startDeployedProxy(balancer!, [one.port, two.port])
      /** What a careful client does: again, with the same key, unless the answer says that nobody knows. */
      async function send(body: string): Promise<string> {
        const headers = { 'idempotency-key': randomUUID() }
        for (;;) {
          const [status, text] = await post(url, body, headers)
          if (status === 200) return 'published'
          if (text.includes('"outcome":"unknown"')) return 'unknown'
          await delay(100)
        }
      }
      const load = publishAll(send)
      const { outcomes } = load
      const more = async () => {
        const before = outcomes.size
        await expect.poll(() => outcomes.size, { timeout: 60_000 }).toBeGreaterThan(before + 100)
      }
      await more()
      one.process.kill('SIGKILL')
      await one.process.exited
      await more()
      await one.start()
      await more()
      two.process.kill('SIGSTOP')
      await delay(3000)
      two.process.kill('SIGCONT')
      await more()
      await redis.kill()
      const without = await post(url, 'without a key')
      expect(without[0]).toBe(200)
      await redis.start()
      await more()
      await load.stop()
      const published = [...outcomes].filter(([, outcome]) => outcome === 'published')
      expect(outcomes.size - published.length).toBeLessThan(3 * PUBLISHERS)
      await expect.poll(() => published.filter(([body]) => !seen.has(body)), { timeout: 20_000 }).toEqual([])
      expect([...seen].filter(([, times]) => times !== 1)).toEqual([])
    },
  )
})

const nginx = DEPLOYED_PROXIES.find(({ name }) => name === 'nginx')

test.runIf(hasMosquitto && hasRedis && nginx !== undefined)(
  'behind nginx, a publish with a key whose replica dies is tried again at another one',
  { timeout: 120_000 },
  async () => {
    const { one, two, seen } = await startReplicas()
    const url = await startDeployedProxy(nginx!, [one.port, two.port])
    one.process.kill('SIGSTOP')
    let answered = 0
    const posts = Array.from({ length: 8 }, async (_, number) => {
      const [status] = await post(url, `${number}`, { 'idempotency-key': `"${randomUUID()}"` })
      answered += 1
      return status
    })
    await expect.poll(() => answered, { timeout: 20_000 }).toBeGreaterThan(0)
    // The others are in the socket of the one that was stopped.
    expect(answered).toBeLessThan(posts.length)
    one.process.kill('SIGKILL')
    expect(await Promise.all(posts)).toEqual(posts.map(() => 200))
    await expect.poll(() => [...seen.values()], { timeout: 20_000 }).toEqual(posts.map(() => 1))
  },
)
