import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cpuSeconds } from './process-costs.ts'
import { startBridge } from './servers/bridge.ts'
import { startMosquitto } from './servers/mosquitto.ts'
import { startLeastBridge } from './servers/start-least-bridge.ts'
import { ROOT, Stage, type Worker } from './stage.ts'
import { median } from './statistics.ts'

const CONNECTIONS = 64
const EFFORTS = {
  /** Only shows that it works. */
  check: { processes: 1, pairs: 1, warmUp: 200, requests: 200 },
  full: { processes: 3, pairs: 5, warmUp: 40_000, requests: 15_000 },
}

interface Server {
  port: number
  pid: number
}

/** How to start a server on a stage. */
type Start = (stage: Stage) => Promise<Server>

const bridgeOf =
  (dist: string): Start =>
  async (stage) => {
    const { url } = await startMosquitto(stage)
    return startBridge(stage, { MQTT_URL: url }, dist)
  }

async function leastBridge(stage: Stage): Promise<Server> {
  const { port } = await startMosquitto(stage)
  return startLeastBridge(stage, port)
}

/** Microseconds of processor time for each of so many requests. */
async function costOf({ port, pid }: Server, load: Worker, qos: number, requests: number): Promise<number> {
  const before = cpuSeconds(pid)
  await load.call('run', { port, connections: CONNECTIONS, qos, requests })
  return ((cpuSeconds(pid) - before) * 1e6) / requests
}

export interface Costs {
  /** Microseconds a request: of the bridge, and of what it is compared with. */
  causeway: number
  beside: number
  /** Of each pair of measurements. */
  ratios: number[]
}

/**
 * What a request costs two servers in processor time. Both are warm, and take turns with a fixed number of requests: what
 * else the machine does meanwhile takes time from both, and from neither more work. Repeated with new processes, as V8
 * does not compile the same code in each.
 */
export async function compare(
  qos: number,
  { beside, effort = 'full' }: { beside?: string | undefined; effort?: keyof typeof EFFORTS } = {},
): Promise<Costs> {
  const { processes, pairs, warmUp, requests } = EFFORTS[effort]
  const all: [number, number][] = []
  for (let generation = 0; generation < processes; generation += 1) {
    const stage = new Stage(process.execPath, join(ROOT, 'dist'))
    try {
      const servers = [
        await bridgeOf(join(ROOT, 'dist'))(stage),
        await (beside === undefined ? leastBridge : bridgeOf(beside))(stage),
      ]
      const load = stage.worker('load/posts.ts')
      for (const server of servers) await costOf(server, load, qos, warmUp)
      for (let pair = 0; pair < pairs; pair += 1) {
        const [causeway, other] = servers as [Server, Server]
        all.push([await costOf(causeway, load, qos, requests), await costOf(other, load, qos, requests)])
      }
    } finally {
      await stage.end()
    }
  }
  return {
    causeway: median(all.map(([cost]) => cost)),
    beside: median(all.map(([, cost]) => cost)),
    ratios: all.map(([cost, other]) => cost / other),
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      qos: { type: 'string', multiple: true, default: ['0', '1', '2'] },
      against: { type: 'string' },
    },
  })
  const title = values.against ?? 'least bridge'
  process.stdout.write(
    `| POST /publish | Causeway, µs | ${title}, µs | ratio (lowest–highest) |\n| --- | --- | --- | --- |\n`,
  )
  for (const qos of values.qos) {
    const { causeway, beside, ratios } = await compare(Number(qos), { beside: values.against })
    const ratio = median(ratios)
    const range = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
    process.stdout.write(
      `| QoS ${qos} | ${causeway.toFixed(1)} | ${beside.toFixed(1)} | ${ratio.toFixed(2)} (${range}) |\n`,
    )
  }
}

if (process.argv[1] === import.meta.filename) await main()
