import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Measured } from '../load/push-endpoint.ts'
import { cpuSeconds } from '../process-costs.ts'
import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Stage, Worker } from '../stage.ts'

/**
 * V8 interprets the bridge's code for some thousand deliveries, so some are made before. Then the bridge is frozen until
 * the broker has all messages, so that the publisher takes nothing of the processors while it is measured.
 */
const SIZES = {
  check: { before: 100, messages: 20_000, seconds: 1 },
  quick: { before: 100_000, messages: 150_000, seconds: 2 },
  full: { before: 100_000, messages: 300_000, seconds: 6 },
}
/** undici alone has no messages to wait for. */
const WARM_UP_S = { check: 0.1, quick: 5, full: 5 }
/** Mosquitto keeps 1,000 messages for a session unless it is told otherwise. */
const UNLIMITED = ['max_queued_messages 0']
const CONCURRENCY = 16

async function untilActive(port: number): Promise<void> {
  for (;;) {
    const [target] = (await (await fetch(`http://127.0.0.1:${port}/push`)).json()) as { state: string }[]
    if (target?.state === 'active') return
    await delay(20)
  }
}

/** The deliveries per second that an endpoint counts, and the microseconds of the poster's processor time for each. */
async function measure(endpoint: Worker, pid: number, effort: Effort): Promise<Sample & { total: number }> {
  const before = cpuSeconds(pid)
  const { rate, delivered, total } = await endpoint.call<Measured>('measure', { seconds: SIZES[effort].seconds })
  return { rate, cpu: ((cpuSeconds(pid) - before) * 1e6) / delivered, total }
}

/** The same, for a bridge: while it works off what the broker has for it. */
async function measureBacklog(
  stage: Stage,
  endpoint: Worker,
  { pid, url }: { pid: number; url: string },
  effort: Effort,
): Promise<Sample> {
  const { before, messages } = SIZES[effort]
  const publisher = stage.worker('load/backlog.ts')
  await publisher.call('fill', { url, messages: before })
  process.kill(pid, 'SIGSTOP')
  try {
    await publisher.call('fill', { url, messages })
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  const { total, ...sample } = await measure(endpoint, pid, effort)
  if (total >= before + messages) throw new Error('all messages were delivered before the end')
  return sample
}

export const push: Scenario = {
  name: 'push',
  title: 'Push with 16 requests at once, beside undici that posts the same, and the least push bridge',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage, UNLIMITED)
        const endpoint = stage.worker('load/push-endpoint.ts')
        const target = {
          name: 'bench',
          topics: ['bench/#'],
          url: `http://127.0.0.1:${await endpoint.call<number>('listen')}/`,
          concurrency: CONCURRENCY,
        }
        const file = join(stage.directory(), 'push.json')
        writeFileSync(file, JSON.stringify([target]))
        const { port, pid } = await startBridge(stage, { MQTT_URL: url, PUSH_FILE: file })
        await untilActive(port)
        return measureBacklog(stage, endpoint, { pid, url }, effort)
      },
    },
    undici: {
      title: 'undici',
      async measure(stage, effort) {
        const endpoint = stage.worker('load/push-endpoint.ts')
        const port = await endpoint.call<number>('listen')
        const poster = stage.baseline('servers/undici-posts.ts')
        await poster.call('start', { port, concurrency: CONCURRENCY })
        await delay(WARM_UP_S[effort] * 1000)
        const { total: _all, ...sample } = await measure(endpoint, poster.pid, effort)
        return sample
      },
    },
    least: {
      title: 'least push bridge',
      async measure(stage, effort) {
        const { port: mqttPort, url } = await startMosquitto(stage, UNLIMITED)
        const endpoint = stage.worker('load/push-endpoint.ts')
        const port = await endpoint.call<number>('listen')
        const bridge = stage.baseline('servers/least-push.ts')
        await bridge.call('start', { port, mqttPort, concurrency: CONCURRENCY })
        return measureBacklog(stage, endpoint, { pid: bridge.pid, url }, effort)
      },
    },
  },
  rows: [
    {
      what: 'rate',
      unit: 'deliveries/s',
      subject: 'causeway',
      metric: 'rate',
      beside: { subject: 'undici', metric: 'rate' },
      target: { atLeast: 0.7 },
    },
    {
      what: 'rate',
      unit: 'deliveries/s',
      subject: 'causeway',
      metric: 'rate',
      beside: { subject: 'least', metric: 'rate' },
      target: { atLeast: 0.9 },
    },
    {
      what: 'processor time per delivery',
      unit: 'µs',
      subject: 'causeway',
      metric: 'cpu',
      beside: { subject: 'undici', metric: 'cpu' },
    },
    {
      what: 'processor time per delivery',
      unit: 'µs',
      subject: 'causeway',
      metric: 'cpu',
      beside: { subject: 'least', metric: 'cpu' },
    },
  ],
}
