import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../test/support/free-port.ts'
import type { Outcome } from '../load/witnessed-posts.ts'
import { now } from '../load/payload.ts'
import { cpuSeconds, residentBytes, withChildren } from '../process-costs.ts'
import type { Effort, Sample, Scenario, Subject } from '../scenario.ts'
import { startAfternoonBridge } from '../servers/afternoon-bridge.ts'
import { type Bridge, startBridge } from '../servers/bridge.ts'
import { startLastingMosquitto } from '../servers/mosquitto.ts'
import { hasNchan, startNchan } from '../servers/nchan.ts'
import { type Answers, hasNodeRed, startNodeRed } from '../servers/node-red.ts'
import type { Stage } from '../stage.ts'
import { climb, measureStep, mqttPublisher, type Server } from './fan-out.ts'
import { measurePublish } from './publish.ts'

const TOPIC = 'bench-0'
/** Events per second, counted over all readers, at which the processor time of an event is measured. */
const STEADY = 20_000
const P99_MAX_MS = 250
/** How often a rate is tried before it has failed: on a shared machine any process may pause for a moment. */
const TRIES = 3
const POSTS_PER_SECOND = 200

interface Size {
  /** Streams that are open when memory is read. */
  streams: number
  /** Those of them that stay for the events. */
  readers: number
  /** Seconds at rest before memory is read. */
  restS: number
  /** Seconds of the posts. */
  publish: { warmUp: number; seconds: number }
  /** Seconds of the measurement at `STEADY`. */
  steadyS: number
  /** Seconds of each rate on the way to the highest, and what it is divided by the rate before. */
  stepS: number
  factor: number
  /** Seconds from the end of the broker until it is started again. */
  awayS: number
  /** How long to wait for the first message that gets through after the broker is back. */
  withinMs: number
  /** Seconds of posts before the broker goes, and after the first message has got through. */
  aroundS: number
  /** How long a post waits for its answer. */
  patienceMs: number
  /** Messages that are missing count as lost when no more has come for so long. */
  quietMs: number
}

const SIZES: Record<Effort, Size> = {
  check: {
    streams: 25,
    readers: 20,
    restS: 0.1,
    publish: { warmUp: 0.1, seconds: 0.5 },
    steadyS: 0.2,
    stepS: 0.2,
    factor: 2,
    awayS: 0.2,
    withinMs: 1000,
    aroundS: 0.2,
    patienceMs: 1000,
    quietMs: 300,
  },
  quick: {
    streams: 3000,
    readers: 1000,
    restS: 2,
    publish: { warmUp: 1, seconds: 3 },
    steadyS: 2,
    stepS: 1,
    factor: 2,
    awayS: 5,
    withinMs: 20_000,
    aroundS: 1,
    patienceMs: 10_000,
    quietMs: 2000,
  },
  full: {
    streams: 5000,
    readers: 1000,
    restS: 5,
    publish: { warmUp: 3, seconds: 8 },
    steadyS: 5,
    stepS: 3,
    factor: 1.25,
    awayS: 5,
    withinMs: 20_000,
    aroundS: 2,
    patienceMs: 10_000,
    quietMs: 2000,
  },
}

type Start = (stage: Stage, broker: { port: number; url: string }, port: number) => Promise<Bridge>

const resident = (pid: number): number => withChildren(pid).reduce((sum, one) => sum + residentBytes(one), 0)
const cpu = (pid: number): number => withChildren(pid).reduce((sum, one) => sum + cpuSeconds(one), 0)

/** Memory at rest, memory of a stream, and the events of one topic. The streams are closed afterwards. */
async function measureStreams(
  stage: Stage,
  pid: number,
  server: Omit<Server, 'topics'>,
  effort: Effort,
): Promise<Sample> {
  const { streams, readers, restS, steadyS, stepS, factor } = SIZES[effort]
  await delay(restS * 1000)
  const atRest = resident(pid)
  const load = stage.worker('load/readers.ts')
  const open = (count: number) => load.call('open', { port: server.port, paths: server.paths, count })
  // The first streams also load code and allocate buffers that all streams share.
  await open(10)
  await delay(restS * 1000)
  const before = resident(pid)
  await open(streams - 10)
  await delay(restS * 1000)
  const perStream = (resident(pid) - before) / (streams - 10)
  await load.call('close', { count: streams - readers })

  const step = (rate: number, seconds = stepS) =>
    measureStep({ ...server, topics: [TOPIC] }, load, readers, rate, seconds)
  const steady = (STEADY * readers) / SIZES.full.readers
  // With a warm-up, so that V8 has compiled the code.
  await step(steady, steadyS)
  const cpuBefore = cpu(pid)
  const { rate, p99 } = await step(steady, steadyS)
  const eventCpu = ((cpu(pid) - cpuBefore) * 1e6) / (rate * steadyS)
  const highest = await climb(step, steady, P99_MAX_MS, effort, { factor, tries: TRIES })
  await load.call('close', { count: readers })
  return { restMB: atRest / 2 ** 20, streamKB: perStream / 1024, eventCpu, eventP99: p99, highest }
}

function bridge(title: string, start: Start): Subject {
  return {
    title,
    async measure(stage, effort) {
      const { publish, awayS, withinMs, aroundS, patienceMs, quietMs } = SIZES[effort]
      const broker = await startLastingMosquitto(stage)
      const port = await freePort()
      const posts = stage.worker('load/witnessed-posts.ts')
      await posts.call('watch', { mqttUrl: broker.url })
      const begin = () => posts.call('begin', { port, rate: POSTS_PER_SECOND, patienceMs })
      const through = (within: number) => posts.call<number>('through', { withinMs: within })
      const end = () => posts.call<Outcome>('end', { quietMs })

      await begin()
      const startedAt = now()
      const [throughAt, { pid }] = await Promise.all([through(60_000), start(stage, broker, port)])
      const startCpu = cpu(pid) * 1000
      await end()

      const publisher = await mqttPublisher(stage, broker.port)
      const streams = await measureStreams(
        stage,
        pid,
        { publisher, port, paths: [`/subscribe?topic=${TOPIC}`] },
        effort,
      )
      const requests = await measurePublish(stage, { port, pid }, 1, publish)

      await begin()
      await delay(aroundS * 1000)
      await broker.beAway(awayS)
      const backAt = now()
      const recoveredAt = await through(withinMs)
      await delay(aroundS * 1000)
      const { lost: lostAnswered, ...outcome } = await end()
      return {
        startMs: (throughAt - startedAt) / 1000,
        startCpu,
        ...streams,
        ...requests,
        recoveryS: (recoveredAt - backAt) / 1e6,
        lostAnswered,
        ...outcome,
      }
    },
  }
}

const nodeRed = (title: string, answers: Answers): Subject => ({
  ...bridge(title, (stage, { port: mqttPort }, port) => startNodeRed(stage, { port, mqttPort, topic: TOPIC, answers })),
  isAvailable: hasNodeRed,
})

export const instead: Scenario = {
  name: 'instead',
  title: 'Beside what people pick instead',
  long: true,
  subjects: {
    causeway: bridge('Causeway', (stage, { url }, port) => startBridge(stage, { MQTT_URL: url, HTTP_PORT: port })),
    afternoon: bridge('an afternoon’s bridge, @fastify/sse', (stage, { url }, port) =>
      startAfternoonBridge(stage, url, port),
    ),
    nodeRed: nodeRed('Node-RED', 'at once'),
    nodeRedComplete: nodeRed('Node-RED, answering on complete', 'complete'),
    nchan: {
      title: 'nchan',
      isAvailable: hasNchan,
      async measure(stage, effort) {
        const { port, pid } = await startNchan(stage)
        const publisher = stage.worker('load/publisher.ts')
        await publisher.call('connectNchan', { port })
        return measureStreams(stage, pid, { publisher, port, paths: [`/sub/${TOPIC}`] }, effort)
      },
    },
  },
  rows: [
    { what: 'requests that failed', unit: '', subject: 'causeway', metric: 'failed', target: { atMost: 0 } },
    {
      what: 'messages answered with 2xx and lost, broker away for 5 s',
      unit: '',
      subject: 'causeway',
      metric: 'lostAnswered',
      target: { atMost: 0 },
    },
  ],
  sideBySide: [
    { what: 'from start to the first message through', unit: 'ms', metric: 'startMs' },
    { what: 'processor time until then', unit: 'ms', metric: 'startCpu' },
    { what: 'resident memory at rest', unit: 'MB', metric: 'restMB' },
    { what: 'resident memory of a stream', unit: 'KB', metric: 'streamKB' },
    { what: '1,000 readers of one topic: highest sustained', unit: 'events/s', metric: 'highest' },
    { what: 'p99 at 20,000 events/s', unit: 'ms', metric: 'eventP99' },
    { what: 'processor time at 20,000 events/s', unit: 'µs/event', metric: 'eventCpu' },
    { what: 'POST, QoS 1, 64 connections: rate', unit: 'requests/s', metric: 'rate' },
    { what: 'p99', unit: 'ms', metric: 'p99' },
    { what: 'processor time', unit: 'µs/request', metric: 'cpu' },
    { what: 'broker away for 5 s: posts', unit: '', metric: 'posts' },
    { what: 'answered with 2xx', unit: '', metric: 'answered' },
    { what: '**of these lost**', unit: '', metric: 'lostAnswered' },
    { what: 'messages that came twice', unit: '', metric: 'repeated' },
    { what: 'answered with an error', unit: '', metric: 'refused' },
    { what: 'not answered within 10 s', unit: '', metric: 'unanswered' },
    { what: 'not answered with 2xx, but came', unit: '', metric: 'cameAnyway' },
    { what: 'broker back until the first message is through', unit: 's', metric: 'recoveryS' },
  ],
}
