import { execFileSync } from 'node:child_process'
import { cpuSeconds } from '../process-costs.ts'
import type { Effort, Sample, Scenario } from '../scenario.ts'
import { startAfternoonBridge } from '../servers/afternoon-bridge.ts'
import { type Bridge, startBridge } from '../servers/bridge.ts'
import { startMosquitto } from '../servers/mosquitto.ts'
import type { Stage } from '../stage.ts'

const CONNECTIONS = 64
/** Seconds: from the first request on, and once V8 has compiled the code. */
const TIMES: Record<Effort, { cold: number; warm: number }> = {
  check: { cold: 0.3, warm: 0.3 },
  quick: { cold: 1, warm: 1 },
  full: { cold: 5, warm: 8 },
}

async function measure(stage: Stage, effort: Effort, start: (mqttUrl: string) => Promise<Bridge>): Promise<Sample> {
  const broker = await startMosquitto(stage)
  const server = await start(broker.url)
  for (const { pid } of [broker, server]) execFileSync('taskset', ['-a', '-p', '-c', '0', String(pid)])
  const load = stage.worker('load/posts.ts')
  async function run(seconds: number): Promise<{ rate: number; cpu: number; failed: number }> {
    const before = cpuSeconds(server.pid)
    const { answered, rate, failed } = await load.call<{ answered: number; rate: number; failed: number }>('run', {
      port: server.port,
      connections: CONNECTIONS,
      qos: 1,
      seconds,
    })
    return { rate, failed, cpu: ((cpuSeconds(server.pid) - before) * 1e6) / answered }
  }
  const times = TIMES[effort]
  const cold = await run(times.cold)
  const warm = await run(times.warm)
  return {
    coldRate: cold.rate,
    coldCpu: cold.cpu,
    warmRate: warm.rate,
    warmCpu: warm.cpu,
    failed: cold.failed + warm.failed,
  }
}

function row(what: string, unit: string, metric: string, target: { atLeast: number } | { atMost: number }) {
  return { what, unit, subject: 'causeway', metric, beside: { subject: 'afternoon', metric }, target }
}

/** A small container: the bridge and the broker share one processor, from the first request on. */
export const oneProcessor: Scenario = {
  name: 'one-processor',
  title: `POST /publish, QoS 1, ${CONNECTIONS} connections, the bridge and the broker on one processor`,
  subjects: {
    causeway: {
      title: 'Causeway',
      measure: (stage, effort) => measure(stage, effort, (url) => startBridge(stage, { MQTT_URL: url })),
    },
    afternoon: {
      title: 'an afternoon’s bridge',
      measure: (stage, effort) => measure(stage, effort, (url) => startAfternoonBridge(stage, url)),
    },
  },
  rows: [
    row('rate in the first 5 s', 'requests/s', 'coldRate', { atLeast: 1 }),
    row('processor time in the first 5 s', 'µs/request', 'coldCpu', { atMost: 1 }),
    row('rate, warm', 'requests/s', 'warmRate', { atLeast: 1 }),
    row('processor time, warm', 'µs/request', 'warmCpu', { atMost: 1 }),
    { what: 'failed', unit: '', subject: 'causeway', metric: 'failed', target: { atMost: 0 } },
  ],
}
