import { setTimeout as delay } from 'node:timers/promises'
import { TopicTree } from '../../../src/mqtt/topic-tree.ts'
import { breach, type Happening } from './continuity.ts'
import type { Faults } from './faults.ts'
import { Follower, type FollowerSpec } from './follower.ts'
import { Ledger, type StormTopic } from './ledger.ts'
import { publishOn, publishOnce } from './publishers.ts'
import type { Random } from './random.ts'

export interface StormOptions {
  /** The bridge's URL. */
  url: string
  /** The broker's URL without the proxy. */
  brokerUrl: string
  random: Random
  operations: number
  faults: Faults
  isReachable(): boolean
}

const topic = (name: string, by: StormTopic['by'], qos: StormTopic['qos'], retain = false): StormTopic => ({
  name,
  by,
  qos,
  retain,
})
const TOPICS = [
  topic('s/a/http1', 'http', 1),
  topic('s/a/mqtt1', 'mqtt', 1),
  topic('s/a/kept', 'http', 1, true),
  topic('s/b/http2', 'http', 2),
  topic('s/b/mqtt2', 'mqtt', 2),
  topic('s/b/mqtt0', 'mqtt', 0),
  topic('s/b/kept', 'mqtt', 1, true),
]
/** Gets bursts of large messages, which fill the sockets of paused followers. */
const BULK = topic('s/bulk', 'http', 1)
const FILTERS = [
  's/#',
  's/+/+',
  's/a/+',
  's/b/#',
  's/+/kept',
  's/a/http1',
  's/b/mqtt0',
  's/+/mqtt1',
  's/b/+',
  's/bulk',
  '+/a/#',
]
const FOLLOWERS_MAX = 8
const RESTARTS = ['restart', 'restartBehindProxy']
/** Messages of a flood, and the bytes of each. */
const FLOOD = { messages: 60, bytes: 60_000 }
const PAUSE_MS = 12
const STEP_MS = 40
/** A failure, not a pace: how long the followers may take to get everything after the last fault, on a busy machine. */
const SETTLE_MS = 60_000
/** Pause before further last messages are published, in case a follower's `gap` covers the first ones. */
const NEXT_LAST_MS = 3000

/** A random run of publishers, followers and faults. `breaches` and `summary` say what came of it. */
export class Storm {
  readonly #options: StormOptions
  readonly #ledger = new Ledger([...TOPICS, BULK])
  readonly #followers: Follower[] = []
  readonly #left: Follower[] = []
  readonly #counts = new Map<string, number>()
  #over = false

  constructor(options: StormOptions) {
    this.#options = options
  }

  async run(): Promise<void> {
    const { url, brokerUrl, random, operations } = this.#options
    const publishers = TOPICS.map((each) =>
      publishOn({
        ledger: this.#ledger,
        topic: each,
        random: random.fork(),
        url,
        brokerUrl,
        pauseMs: PAUSE_MS,
        isOver: () => this.#over,
      }),
    )
    for (let count = 0; count < 3; count += 1) this.#join()
    for (let count = 0; count < operations; count += 1) {
      await this.#step()
      await delay(random.integer(0, STEP_MS))
    }
    this.#over = true
    await Promise.all(publishers)
    await this.#settle()
  }

  /** What happened, for the log. */
  summary(): string {
    const seen = [...this.#followers, ...this.#left].flatMap(({ history }) => history)
    const gaps = seen.filter(({ kind }) => kind === 'gap') as Extract<Happening, { kind: 'gap' }>[]
    const reasons = Object.fromEntries(
      [...new Set(gaps.map(({ reason }) => reason))].map((reason) => [
        reason,
        gaps.filter((gap) => gap.reason === reason).length,
      ]),
    )
    return JSON.stringify({
      ...Object.fromEntries(this.#counts),
      published: this.#ledger.summary(),
      seen: seen.filter(({ kind }) => kind === 'message').length,
      gaps: reasons,
    })
  }

  /** The first breach of the delivery promise in each follower's history, in words; none when all is well. */
  breaches(): string[] {
    return [...this.#followers, ...this.#left].flatMap((follower) => {
      const found =
        breach(follower.history, this.#ledger, this.#left.includes(follower)) ??
        (this.#left.includes(follower) ? undefined : this.#unfinished(follower))
      return found === undefined
        ? []
        : [`${JSON.stringify(follower.spec)}: ${found}\n${excerpt(follower.history, found)}`]
    })
  }

  /** All followers leave. */
  leave(): void {
    for (const follower of this.#followers) follower.leave()
  }

  async #step(): Promise<void> {
    const { random, faults } = this.#options
    const kind = random.pick([
      'join',
      'leave',
      'reconnect',
      'reconnect',
      'away',
      'away',
      'back',
      'back',
      'pause',
      'resume',
      'resume',
      'flood',
      'fault',
      'fault',
      'fault',
    ])
    const follower = random.pick(this.#followers)
    if (kind === 'fault') return this.#fault(random.pick(Object.entries(faults)))
    this.#count(kind)
    if (kind === 'join') this.#join()
    else if (kind === 'flood') return this.#flood()
    else if (kind === 'leave') this.#remove(follower)
    else if (kind === 'away') follower.leave()
    else if (kind === 'pause') follower.pause()
    else if (kind === 'resume') follower.resume()
    else if (kind === 'reconnect' || follower.isAway) {
      follower.leave()
      follower.join(random.chance(0.2))
    }
  }

  async #fault([name, fault]: [string, () => Promise<void>]): Promise<void> {
    this.#count(name)
    this.#ledger.faultBegins(RESTARTS.includes(name))
    await fault()
    this.#ledger.faultEnds()
  }

  async #flood(): Promise<void> {
    for (let count = 0; count < FLOOD.messages; count += 1) {
      if ((await publishOnce(this.#options.url, this.#ledger, BULK, FLOOD.bytes)) !== 'acknowledged') return
    }
  }

  #join(): void {
    if (this.#followers.length >= FOLLOWERS_MAX) return
    const { url, random } = this.#options
    const spec: FollowerSpec = {
      name: `follower ${this.#followers.length + this.#left.length}`,
      filters: random.some(FILTERS, random.integer(1, 4)),
      qos: random.pick([0, 1, 1, 1, 2]),
      slow: random.pick(['gap', 'gap', 'latest', 'close']),
      format: random.pick(['sse', 'ndjson']),
      embedJson: random.chance(0.3),
      retained: random.chance(0.5),
      resumeBy: random.pick(['header', 'query']),
    }
    const follower = new Follower(url, spec, this.#ledger)
    this.#followers.push(follower)
    follower.join(true)
  }

  /** The follower leaves for good. */
  #remove(follower: Follower): void {
    if (this.#followers.length <= 2) return
    follower.leave()
    this.#followers.splice(this.#followers.indexOf(follower), 1)
    this.#left.push(follower)
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1)
  }

  /**
   * All followers connect again. When the bridge is connected too, a last message on each topic shows when a follower
   * has got everything. A `gap` of the last fault may cover that message too, so every three seconds another follows.
   */
  async #settle(): Promise<void> {
    const until = performance.now() + SETTLE_MS
    for (const follower of this.#followers) {
      follower.resume()
      if (follower.isAway) follower.join(false)
    }
    while (
      performance.now() < until &&
      !(this.#options.isReachable() && this.#followers.every(({ isOpen }) => isOpen))
    ) {
      await delay(20)
    }
    while (performance.now() < until && this.#isUnfinished()) {
      for (const each of this.#ledger.topics.values()) {
        // MQTT keeps the order only within a QoS [MQTT-4.6.0-5], so a last message at QoS 1 could overtake the QoS 2
        // messages before it.
        const last = { ...each, qos: each.qos === 2 ? 2 : 1 } as const
        while (
          performance.now() < until &&
          (await publishOnce(this.#options.url, this.#ledger, last)) !== 'acknowledged'
        ) {
          await delay(20)
        }
      }
      const next = performance.now() + NEXT_LAST_MS
      while (performance.now() < next && this.#isUnfinished()) await delay(20)
    }
  }

  #isUnfinished(): boolean {
    return this.#followers.some((follower) => this.#unfinished(follower) !== undefined)
  }

  #unfinished(follower: Follower): string | undefined {
    const { spec, history, isOpen } = follower
    const filters = new TopicTree<true>()
    for (const filter of spec.filters) filters.set(filter, true)
    for (const [name, newest] of this.#ledger.begun()) {
      if (filters.match(name).length > 0 && follower.seen(name) < newest) {
        const state = isOpen ? 'open' : `not open (${follower.lastRefusal})`
        return `#${history.length}: ${state}, and ${name} ended at ${follower.seen(name)} of ${newest}`
      }
    }
    return undefined
  }
}

/** The part of a history before the happening that a breach names, and some after it. */
function excerpt(history: readonly Happening[], found: string): string {
  const index = Number(/^#(\d+)/.exec(found)![1])
  const from = Math.max(0, index - 40)
  return history
    .slice(from, index + 5)
    .map(
      ({ begun: _begun, ...happening }: Happening & { begun?: unknown }, offset) =>
        `  #${from + offset} ${JSON.stringify(happening)}`,
    )
    .join('\n')
}
