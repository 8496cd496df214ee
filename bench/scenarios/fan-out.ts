import type { Effort, Sample, Scenario, Subject } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import { hasNchan, startNchan } from '../servers/nchan.ts'
import type { Stage, Worker } from '../stage.ts'

/** The rate of each step divided by the one before. */
const FACTORS = { check: 4, quick: 4, full: 1.25 }
const STEP_S = { check: 0.2, quick: 0.4, full: 3 }
/** How often a step is tried before it has failed: on a shared machine any process may pause once. */
const TRIES = { check: 1, quick: 1, full: 2 }
/**
 * Mosquitto's default leaves Nagle's algorithm on. With that it holds QoS 0 messages back for up to 40 ms now and then,
 * behind whatever server, until the kernel there has acknowledged the bytes before.
 */
const MOSQUITTO = ['set_tcp_nodelay true']
/** With effort `check` there are so many times fewer readers. */
const CHECK_SHRINKS = 200

export interface FanOut {
  name: string
  title: string
  readers: number
  topics: number
  /** The rate at which latency and losses are measured, in events per second. */
  at: number
  /** Highest p99, in milliseconds, at which a rate counts as sustained: no queue is growing. */
  p99Max: number
  rows: Scenario['rows']
}

export interface Server {
  publisher: Worker
  topics: string[]
  port: number
  paths: string[]
}

interface Step {
  events: number
  incomplete: number
  disordered: number
  p50: number
  p99: number
}

export function fanOut({ name, title, readers, topics, at, p99Max, rows }: FanOut): Scenario {
  const names = Array.from({ length: topics }, (_, index) => `bench-${index}`)

  /**
   * @param from the rate of the first step, in events per second
   * @param looksAt the rate at which latency and losses are measured
   */
  function subject(
    subjectTitle: string,
    from: number,
    start: (stage: Stage, topics: string[]) => Promise<Server>,
    looksAt?: number,
  ): Subject {
    return {
      title: subjectTitle,
      async measure(stage, effort) {
        const count = effort === 'check' ? Math.max(topics / 10, readers / CHECK_SHRINKS) : readers
        const server = await start(stage, names.slice(0, effort === 'check' ? Math.ceil(topics / 10) : topics))
        const load = stage.worker('load/readers.ts')
        await load.call('open', { port: server.port, paths: server.paths, count })
        const step = (rate: number, seconds = STEP_S[effort]) => measureStep(server, load, count, rate, seconds)
        const scale = count / readers
        if (effort === 'full') await step(from * scale)
        const highest = await climb(step, from * scale, p99Max, effort)
        return { highest, ...(looksAt !== undefined && (await look(step, looksAt * scale))) }
      },
    }
  }

  return {
    name,
    title,
    subjects: {
      causeway: subject('Causeway', 200_000, startCauseway, at),
      nchan: { ...subject('nchan', 100_000, startBesideNchan), isAvailable: hasNchan },
      obvious: subject('obvious Node server', 40_000, startObvious),
    },
    rows,
  }
}

async function startCauseway(stage: Stage, topics: string[]): Promise<Server> {
  const { port: brokerPort, url } = await startMosquitto(stage, MOSQUITTO)
  const { port } = await startBridge(stage, { MQTT_URL: url })
  return {
    publisher: await mqttPublisher(stage, brokerPort),
    topics,
    port,
    paths: topics.map((topic) => `/subscribe?topic=${topic}`),
  }
}

async function startObvious(stage: Stage, topics: string[]): Promise<Server> {
  const { port: brokerPort, url } = await startMosquitto(stage, MOSQUITTO)
  const port = await stage.baseline('servers/obvious.ts').call<number>('listen', { mqttUrl: url })
  return {
    publisher: await mqttPublisher(stage, brokerPort),
    topics,
    port,
    paths: topics.map((topic) => `/?topic=${topic}`),
  }
}

async function startBesideNchan(stage: Stage, topics: string[]): Promise<Server> {
  const { port } = await startNchan(stage)
  const publisher = stage.worker('load/publisher.ts')
  await publisher.call('connectNchan', { port })
  return { publisher, topics, port, paths: topics.map((topic) => `/sub/${topic}`) }
}

export async function mqttPublisher(stage: Stage, port: number): Promise<Worker> {
  const publisher = stage.worker('load/publisher.ts')
  await publisher.call('connectMqtt', { port })
  return publisher
}

/** Publishes at `rate` events per second, counted over all readers, and waits until they have come. */
export async function measureStep(
  { publisher, topics }: Server,
  load: Worker,
  readers: number,
  rate: number,
  seconds: number,
): Promise<Step & { rate: number; kept: boolean }> {
  await load.call('mark')
  const messages = (rate * topics.length) / readers
  const run = await publisher.call<{ sent: number; seconds: number }>('steadily', { topics, rate: messages, seconds })
  const each = run.sent / topics.length
  const step = await load.call<Step>('settle', { each })
  return { ...step, rate: (each * readers) / run.seconds, kept: run.seconds < seconds * 1.05 + 0.01 }
}

async function look(step: (rate: number) => Promise<Step>, rate: number): Promise<Sample> {
  const { incomplete, disordered, p50, p99 } = await step(rate)
  return { lostAt: incomplete + disordered, p50At: p50, p99At: p99 }
}

/**
 * The highest sustained rate in events per second: rises from `from` until a step fails, or falls until one holds. Then
 * it tries half a step more: otherwise a ratio of two such rates could only be a power of the factor.
 */
export async function climb(
  step: (rate: number) => Promise<Step & { rate: number; kept: boolean }>,
  from: number,
  p99Max: number,
  effort: Effort,
  { factor, tries } = { factor: FACTORS[effort], tries: TRIES[effort] },
): Promise<number> {
  let highest = 0
  async function holds(rate: number): Promise<boolean> {
    for (let attempt = 0; attempt < tries; attempt += 1) {
      const { incomplete, disordered, p99, kept, rate: reached } = await step(rate)
      // `check` only shows that all events come. On a busy machine no rate may be kept.
      const isFast = effort === 'check' || (kept && p99 <= p99Max)
      if (isFast && incomplete === 0 && disordered === 0) {
        highest = Math.max(highest, reached)
        return true
      }
    }
    return false
  }
  if (effort === 'check') await holds(from)
  else {
    let failed = from
    if (await holds(from)) for (failed = from * factor; await holds(failed); failed *= factor);
    else for (let rate = from / factor; rate > from / 50 && !(await holds(rate)); rate /= factor) failed = rate
    if (effort === 'full' && highest > 0) await holds(failed / Math.sqrt(factor))
  }
  return highest
}
