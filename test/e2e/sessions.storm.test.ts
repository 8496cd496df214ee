import { expect, test } from 'vitest'
import type { Settings } from '../support/bridge.ts'
import { type BridgeProcess, spawnBridge } from '../support/bridge-process.ts'
import { hasMosquitto, startMosquitto } from '../support/broker.ts'
import { Consumer, type ConsumerSpec, type Processed } from '../support/session-storm/consumer.ts'
import { startStormEndpoint } from '../support/session-storm/endpoint.ts'
import { startPublisher } from '../support/session-storm/publisher.ts'
import { untilEmpty } from '../support/progress.ts'
import { Random } from '../support/storm/random.ts'
import { randomRun } from '../support/storm/random-run.ts'

const { seed, operations, replay } = randomRun({ brief: 10, long: 40 })
/** A bridge or the broker ends and comes back. A fault takes as long as about ten operations of the streams' storm. */
const FAULTS = Math.ceil(operations / 10)
/** Messages of each topic that are acknowledged to their publisher before the next fault. */
const MESSAGES_BETWEEN_FAULTS = 40
/** Probability that a consumer crashes at an event: once before it processes it, once before it acknowledges it. */
const CRASH_PROBABILITY = 0.03

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

/** Two bridges on one broker. At least one of them is up at any time. */
function startBridges(settings: Settings, random: Random) {
  const bridges = [spawnBridge(settings), spawnBridge(settings)]
  const urls: (string | undefined)[] = []
  const waitForUrl = async (index: number) => {
    urls[index] = await bridges[index]!.url
  }
  return {
    started: () => Promise.all([waitForUrl(0), waitForUrl(1)]),
    /** Those that are up. */
    urls: () => urls.filter((url) => url !== undefined),
    url: () => random.pick(urls.filter((url) => url !== undefined)),
    async killOne() {
      const index = random.integer(0, 1)
      const bridge: BridgeProcess = bridges[index]!
      urls[index] = undefined
      bridge.kill('SIGKILL')
      await bridge.exited
      bridges[index] = spawnBridge(settings)
      await waitForUrl(index)
    },
  }
}

/**
 * The messages that were processed after a newer one of their topic, and must not have been: the broker did not mark
 * them as redelivered, or their stream had seen no interruption. A repeat by the publisher has the same number, so it
 * is not older.
 */
function outOfOrder(processed: Processed[]): Processed[] {
  const newest = new Map<string, number>()
  return processed.filter(({ topic, sequence, redelivered, stream, isUninterrupted }) => {
    const isOlder = [...(redelivered ? [] : [topic]), ...(isUninterrupted ? [`${topic} in ${stream}`] : [])].some(
      (key) => sequence < (newest.get(key) ?? 0),
    )
    for (const key of [topic, `${topic} in ${stream}`]) newest.set(key, Math.max(newest.get(key) ?? 0, sequence))
    return isOlder
  })
}

const STORMS = [
  { name: 'each on its own', consumers: SOLO, isGroup: false, killChance: 0.5, lingerMs: 1000 },
  // With `ack=auto` a message is acknowledged once it is written to the reader's socket. If the bridge is killed then,
  // nobody has it any more, so here no bridge is killed.
  { name: 'acknowledged for their readers', consumers: AUTO, isGroup: false, killChance: 0, lingerMs: 60_000 },
  // Mosquitto 2.0.11 loses shared subscriptions in a restart, and every message published until a member has subscribed
  // again. So here only bridges are killed.
  { name: 'sharing the work', consumers: GROUP, isGroup: true, killChance: 1, lingerMs: 1000 },
]

test.runIf(hasMosquitto).each(STORMS)(
  'in a storm of crashes, kills and restarts, sessions $name process all that was acknowledged to its publisher',
  { timeout: 120_000 + FAULTS * 30_000 },
  async ({ consumers: specs, isGroup, killChance, lingerMs }) => {
    console.log(`session storm: ${replay}`)
    const random = new Random(seed)
    const broker = await startMosquitto({ persistence: true, config: ['max_queued_messages 0'] })
    const endpoint = isGroup ? undefined : await startStormEndpoint('s/#', random.fork())
    const bridges = startBridges(
      {
        MQTT_URL: broker.url,
        BROKER_QUEUE_MAX: 0,
        SESSION_MAX_UNACKED: 20,
        STREAM_LINGER_MS: lingerMs,
        ...(endpoint && { PUSH_FILE: endpoint.path }),
      },
      random.fork(),
    )
    await bridges.started()
    let crashProbability = CRASH_PROBABILITY
    let isOver = false
    const consumers = specs.map(
      (spec) =>
        new Consumer({ spec, random: random.fork(), url: bridges.url, crashProbability: () => crashProbability }),
    )
    // A session gets what is published after it was opened, so publishing starts when all are open.
    const sessions = async (url: string) =>
      (await (await fetch(`${url}/sessions`)).json()) as { name: string; connected: boolean }[]
    const open = async () =>
      (await Promise.all(bridges.urls().map(sessions)))
        .flat()
        .filter(({ connected }) => connected)
        .map(({ name }) => name)
        .toSorted()
    await expect.poll(open, { timeout: 20_000 }).toEqual(specs.map(({ name }) => name).toSorted())
    const pushes = async (url: string) => (await (await fetch(`${url}/push`)).json()) as { state: string }[]
    const pushStates = async () => (await Promise.all(bridges.urls().map(pushes))).flat().map(({ state }) => state)
    // One bridge has the target, and the other one stands by.
    if (endpoint) await expect.poll(async () => (await pushStates()).toSorted()).toEqual(['active', 'standby'])

    const publishers = TOPICS.map((topic) =>
      startPublisher({
        ...topic,
        random: random.fork(),
        url: bridges.url,
        brokerUrl: broker.url,
        isOver: () => isOver,
      }),
    )
    /** Waits for progress, not for a time: on a busy machine everything takes longer. */
    async function untilPublished(): Promise<void> {
      const wanted = publishers.map(({ acknowledged }) => acknowledged.size + MESSAGES_BETWEEN_FAULTS)
      const behind = () => publishers.filter(({ acknowledged }, index) => acknowledged.size < wanted[index]!)
      await expect.poll(behind, { timeout: 60_000, interval: 20 }).toEqual([])
    }
    for (let count = 0; count < FAULTS; count += 1) {
      await untilPublished()
      if (random.chance(killChance)) await bridges.killOne()
      else {
        await broker.stop()
        await broker.start()
      }
    }
    await untilPublished()
    isOver = true
    crashProbability = 0
    endpoint?.recover()
    await Promise.all(publishers.map(({ ended }) => ended))
    const acknowledged = publishers.flatMap(({ acknowledged: sequences }, index) =>
      [...sequences].map((sequence) => `${TOPICS[index]!.topic} ${sequence}`),
    )
    const missing = (processed: readonly { topic: string; sequence: number }[]) => {
      const seen = new Set(processed.map(({ topic, sequence }) => `${topic} ${sequence}`))
      return acknowledged.filter((each) => !seen.has(each))
    }
    const sets = () => [
      ...(isGroup ? [consumers.flatMap(({ processed }) => processed)] : consumers.map(({ processed }) => processed)),
      ...(endpoint ? [endpoint.accepted] : []),
    ]
    await untilEmpty(() => sets().flatMap(missing))
    for (const consumer of consumers) await consumer.stop()
    const summary = consumers.map(({ spec, processed, crashes }) => ({
      consumer: spec.name,
      processed: processed.length,
      redelivered: processed.filter(({ redelivered }) => redelivered).length,
      uninterrupted: processed.filter(({ isUninterrupted }) => isUninterrupted).length,
      crashes,
    }))
    console.log(`session storm: ${acknowledged.length} acknowledged; ${JSON.stringify(summary)}`)
    if (endpoint) {
      const again = endpoint.accepted.filter(({ redelivered }) => redelivered).length
      console.log(`session storm: ${endpoint.accepted.length} pushed, ${again} again, ${endpoint.failures} failures`)
      expect(endpoint.failures).toBeGreaterThan(0)
    }
    expect(acknowledged.length).toBeGreaterThan(100)
    expect(consumers.reduce((sum, each) => sum + each.crashes, 0)).toBeGreaterThan(0)
    for (const { gaps } of consumers) expect(gaps).toEqual([])
    if (!isGroup) for (const { processed } of consumers) expect(outOfOrder(processed)).toEqual([])
  },
)
