import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Settings } from '../support/bridge.ts'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { Consumer, type ConsumerSpec, type Processed } from '../support/session-storm/consumer.ts'
import { publishNumbers } from '../support/session-storm/publisher.ts'
import { Random } from '../support/storm/random.ts'

/** As in storm.test.ts: CAUSEWAY_TEST_SEED makes a run again, CAUSEWAY_TEST_OPERATIONS makes it longer. */
const { CAUSEWAY_TEST_SEED, CAUSEWAY_TEST_OPERATIONS } = process.env
const SEED = CAUSEWAY_TEST_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(CAUSEWAY_TEST_SEED)
const FAULTS = Math.ceil(Number(CAUSEWAY_TEST_OPERATIONS ?? 30) / 10)
const BETWEEN_FAULTS_MS = 800
const CRASHES = 0.03
const SETTLE_MS = 30_000

const SOLO: ConsumerSpec[] = [
  { name: 'post', filter: 's/#', by: 'post' },
  { name: 'resume', filter: 's/#', by: 'last-event-id' },
]
const AUTO: ConsumerSpec[] = ['one', 'two'].map((name) => ({ name, filter: 's/#', by: 'auto' }))
const GROUP: ConsumerSpec[] = ['one', 'two'].map((name) => ({ name, filter: '$share/group/s/#', by: 'post' }))
const TOPICS = [
  { topic: 's/http1', by: 'http' },
  { topic: 's/http2', by: 'http' },
  { topic: 's/mqtt1', by: 'mqtt' },
  { topic: 's/mqtt2', by: 'mqtt' },
] as const

/** Two bridges, of which one at least is up. */
function startBridges(settings: Settings, random: Random) {
  const bridges = [spawnBridge(settings), spawnBridge(settings)]
  const urls: (string | undefined)[] = []
  const come = async (index: number) => {
    urls[index] = await bridges[index]!.url
  }
  return {
    started: () => Promise.all([come(0), come(1)]),
    url: () => random.pick(urls.filter((url) => url !== undefined)),
    async killOne() {
      const index = random.integer(0, 1)
      const bridge: BridgeProcess = bridges[index]!
      urls[index] = undefined
      bridge.kill('SIGKILL')
      await bridge.exited
      bridges[index] = spawnBridge(settings)
      await come(index)
    },
  }
}

/**
 * What came of one topic behind a newer message, although the broker did not send it again, or nothing had broken since
 * its stream began. A publisher's own repeat has the same number.
 */
function disorder(processed: Processed[]): Processed[] {
  const newest = new Map<string, number>()
  return processed.filter(({ topic, sequence, redelivered, stream, isUnbroken }) => {
    const isBehind = [...(redelivered ? [] : [topic]), ...(isUnbroken ? [`${topic} in ${stream}`] : [])].some(
      (key) => sequence < (newest.get(key) ?? 0),
    )
    for (const key of [topic, `${topic} in ${stream}`]) newest.set(key, Math.max(newest.get(key) ?? 0, sequence))
    return isBehind
  })
}

const STORMS = [
  { name: 'each on its own', consumers: SOLO, isGroup: false, killChance: 0.5, lingerMs: 1000 },
  // What left for a reader's socket is with its bridge alone.
  { name: 'acknowledged for their readers', consumers: AUTO, isGroup: false, killChance: 0, lingerMs: 60_000 },
  // Mosquitto 2.0.11 forgets shared subscriptions in a restart, and with them what is published until members are back.
  { name: 'sharing the work', consumers: GROUP, isGroup: true, killChance: 1, lingerMs: 1000 },
]

test.runIf(hasMosquitto).each(STORMS)(
  'in a storm of crashes, kills and restarts, sessions $name process all that was acknowledged to its publisher',
  { timeout: 60_000 + FAULTS * 20_000 },
  async ({ consumers: specs, isGroup, killChance, lingerMs }) => {
    console.log(`session storm: CAUSEWAY_TEST_SEED=${SEED} CAUSEWAY_TEST_OPERATIONS=${FAULTS * 10}`)
    const random = new Random(SEED)
    const broker = await startMosquitto({ persistence: true, config: ['max_queued_messages 0'] })
    const bridges = startBridges(
      { MQTT_URL: broker.url, SESSION_MAX_UNACKED: 20, STREAM_LINGER_MS: lingerMs },
      random.fork(),
    )
    await bridges.started()
    let crashes = CRASHES
    let isOver = false
    const consumers = specs.map(
      (spec) => new Consumer({ spec, random: random.fork(), url: bridges.url, crashes: () => crashes }),
    )
    // A session owes nothing from before it began.
    const isOpen = async (name: string) =>
      (
        await Promise.all(
          [0, 1, 2, 3].map(
            async () =>
              (await (await fetch(`${bridges.url()}/sessions`)).json()) as { name: string; connected: boolean }[],
          ),
        )
      )
        .flat()
        .some((session) => session.name === name && session.connected)
    for (const { spec } of consumers) await expect.poll(() => isOpen(spec.name), { timeout: 10_000 }).toBe(true)

    const publishing = TOPICS.map((topic) =>
      publishNumbers({
        ...topic,
        random: random.fork(),
        url: bridges.url,
        brokerUrl: broker.url,
        isOver: () => isOver,
      }),
    )
    for (let count = 0; count < FAULTS; count += 1) {
      await delay(BETWEEN_FAULTS_MS)
      if (random.chance(killChance)) await bridges.killOne()
      else {
        await broker.stop()
        await broker.start()
      }
    }
    await delay(BETWEEN_FAULTS_MS)
    isOver = true
    crashes = 0
    const acknowledged = (await Promise.all(publishing)).flatMap((sequences, index) =>
      [...sequences].map((sequence) => `${TOPICS[index]!.topic} ${sequence}`),
    )
    const missing = (processed: Processed[]) => {
      const seen = new Set(processed.map(({ topic, sequence }) => `${topic} ${sequence}`))
      return acknowledged.filter((each) => !seen.has(each))
    }
    const sets = () =>
      isGroup ? [consumers.flatMap(({ processed }) => processed)] : consumers.map(({ processed }) => processed)
    await expect.poll(() => sets().flatMap(missing), { timeout: SETTLE_MS }).toEqual([])
    for (const consumer of consumers) await consumer.stop()
    console.log(
      `session storm: ${JSON.stringify({ acknowledged: acknowledged.length, processed: consumers.map(({ processed }) => processed.length), redelivered: consumers.map(({ processed }) => processed.filter(({ redelivered }) => redelivered).length), unbroken: consumers.map(({ processed }) => processed.filter(({ isUnbroken }) => isUnbroken).length), crashes: consumers.map((each) => each.crashes) })}`,
    )
    expect(acknowledged.length).toBeGreaterThan(100)
    expect(consumers.reduce((sum, each) => sum + each.crashes, 0)).toBeGreaterThan(0)
    for (const { gaps } of consumers) expect(gaps).toEqual([])
    if (!isGroup) for (const { processed } of consumers) expect(disorder(processed)).toEqual([])
  },
)
