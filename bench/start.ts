import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { cpuSeconds, residentBytes } from './process-costs.ts'
import { startBridge } from './servers/bridge.ts'
import { startMosquitto } from './servers/mosquitto.ts'
import { ROOT, Stage } from './stage.ts'
import { median } from './statistics.ts'

const POLL_MS = 10
/** After the start nothing is asked of it any more. */
const REST_MS = 2000

export interface Start {
  /** Processor time until `/readyz` says 200, and time of the clock. The clock swings with what else the machine does. */
  cpuMs: number
  clockMs: number
  /** Resident memory two seconds later. */
  restMiB: number
}

/** One start of a build, with a Mosquitto as its broker. */
export async function measureStart(node: string, dist: string, restMs = REST_MS): Promise<Start> {
  const stage = new Stage(node, dist)
  try {
    const { url } = await startMosquitto(stage)
    const begun = performance.now()
    const { port, pid } = await startBridge(stage, { MQTT_URL: url })
    while ((await fetch(`http://127.0.0.1:${port}/readyz`)).status !== 200) await delay(POLL_MS)
    const cpuMs = cpuSeconds(pid) * 1000
    const clockMs = performance.now() - begun
    await delay(restMs)
    return { cpuMs, clockMs, restMiB: residentBytes(pid) / 2 ** 20 }
  } finally {
    await stage.end()
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      node: { type: 'string', default: process.execPath },
      against: { type: 'string' },
      rounds: { type: 'string', default: '10' },
    },
  })
  const builds = [join(ROOT, 'dist'), ...(values.against === undefined ? [] : [values.against])]
  const starts = new Map<string, Start[]>(builds.map((dist) => [dist, []]))
  // In turns, so that what else the machine does takes time from both.
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const [dist, found] of starts) found.push(await measureStart(values.node, dist))
  }
  process.stdout.write('| build | processor time, ms | clock, ms | at rest, MiB |\n| --- | --- | --- | --- |\n')
  for (const [dist, found] of starts) {
    const medians = (['cpuMs', 'clockMs', 'restMiB'] as const).map((key) =>
      median(found.map((start) => start[key])).toFixed(0),
    )
    process.stdout.write(`| ${dist} | ${medians.join(' | ')} |\n`)
  }
}

if (process.argv[1] === import.meta.filename) await main()
