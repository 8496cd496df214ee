import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Measured } from '../load/push-endpoint.ts'
import { cpuSeconds } from '../process-costs.ts'
import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Worker } from '../stage.ts'

const TIMES = {
  check: { warmUp: 0.1, seconds: 0.5 },
  // V8 interprets the bridge's own code for some thousand deliveries.
  quick: { warmUp: 5, seconds: 2 },
  full: { warmUp: 5, seconds: 8 },
}
const CONCURRENCY = 16

async function untilActive(port: number): Promise<void> {
  for (;;) {
    const [target] = (await (await fetch(`http://127.0.0.1:${port}/push`)).json()) as { state: string }[]
    if (target?.state === 'active') return
    await delay(20)
  }
}

/** The deliveries per second that an endpoint counts, and the microseconds of the poster's processor time for each. */
async function measure(endpoint: Worker, pid: number, effort: Effort): Promise<Sample> {
  const { warmUp, seconds } = TIMES[effort]
  await delay(warmUp * 1000)
  const before = cpuSeconds(pid)
  const { rate, delivered } = await endpoint.call<Measured>('measure', { seconds })
  return { rate, cpu: ((cpuSeconds(pid) - before) * 1e6) / delivered }
}

export const push: Scenario = {
  name: 'push',
  title: 'Push with 16 requests at once, beside undici that posts the same, and the least push bridge',
  subjects: {
    causeway: {
      title: 'Causeway',
      async measure(stage, effort) {
        const { url } = await startMosquitto(stage)
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
        await endpoint.call('feed', { url })
        return measure(endpoint, pid, effort)
      },
    },
    undici: {
      title: 'undici',
      async measure(stage, effort) {
        const endpoint = stage.worker('load/push-endpoint.ts')
        const port = await endpoint.call<number>('listen')
        const poster = stage.baseline('servers/undici-posts.ts')
        await poster.call('start', { port, concurrency: CONCURRENCY })
        return measure(endpoint, poster.pid, effort)
      },
    },
    least: {
      title: 'least push bridge',
      async measure(stage, effort) {
        const { port: mqttPort, url } = await startMosquitto(stage)
        const endpoint = stage.worker('load/push-endpoint.ts')
        const port = await endpoint.call<number>('listen')
        const bridge = stage.baseline('servers/least-push.ts')
        await bridge.call('start', { port, mqttPort, concurrency: CONCURRENCY })
        await endpoint.call('feed', { url })
        return measure(endpoint, bridge.pid, effort)
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
