import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { cpuSeconds } from './process-costs.ts'
import { startAfternoonBridge } from './servers/afternoon-bridge.ts'
import { type Bridge, startBridge } from './servers/bridge.ts'
import { startMosquitto } from './servers/mosquitto.ts'
import { startLeastBridge } from './servers/start-least-bridge.ts'
import { ROOT, Stage } from './stage.ts'
import { median } from './statistics.ts'

const CONNECTIONS = 64
/** What the start leaves to be done is done after this, and is not counted with the requests. */
const REST_MS = 500

/** Starts a server for a broker. */
export type Start = (stage: Stage, broker: { url: string; port: number }) => Promise<Bridge>

export const BASELINES: Readonly<Record<string, Start>> = {
  'an afternoon’s bridge': (stage, { url }) => startAfternoonBridge(stage, url),
  'the least bridge': (stage, { port }) => startLeastBridge(stage, port),
}

export function bridgeOf(dist: string): Start {
  return (stage, { url }) => startBridge(stage, { MQTT_URL: url }, dist)
}

/**
 * What the first requests cost a new process: milliseconds of processor time from the first request until each count is
 * reached. The server shares a processor with the broker, as in a small container.
 * @param counts in ascending order
 */
export async function costsOfFirst(
  start: Start,
  counts: readonly number[],
  node = process.execPath,
): Promise<number[]> {
  const stage = new Stage(node, join(ROOT, 'dist'))
  try {
    const broker = await startMosquitto(stage)
    const { port, pid } = await start(stage, broker)
    for (const one of [broker.pid, pid]) execFileSync('taskset', ['-a', '-p', '-c', '0', String(one)])
    await delay(REST_MS)
    const load = stage.worker('load/posts.ts')
    const before = cpuSeconds(pid)
    const costs: number[] = []
    for (const [index, count] of counts.entries()) {
      const requests = count - (counts[index - 1] ?? 0)
      await load.call('run', { port, connections: CONNECTIONS, qos: 1, requests })
      costs.push((cpuSeconds(pid) - before) * 1000)
    }
    return costs
  } finally {
    await stage.end()
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      node: { type: 'string', default: process.execPath },
      against: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      requests: { type: 'string', multiple: true, default: ['1', '5000', '20000', '100000'] },
    },
  })
  const counts = values.requests.map(Number)
  const { against } = values
  const subjects = new Map<string, Start>([
    ['Causeway', bridgeOf(join(ROOT, 'dist'))],
    ...(against === undefined ? Object.entries(BASELINES) : [[against, bridgeOf(against)] as const]),
  ])
  const found = new Map<string, number[][]>([...subjects.keys()].map((name) => [name, []]))
  for (let round = 0; round < Number(values.rounds); round += 1) {
    // In turns, in every second round in reverse order: what else the machine does takes time from all of them.
    const turn = round % 2 === 0 ? [...subjects] : [...subjects].reverse()
    for (const [name, start] of turn) found.get(name)!.push(await costsOfFirst(start, counts, values.node))
  }
  const own = found.get('Causeway')!
  const head = `| processor time of the first requests, ms (Causeway’s beside it) | ${counts.join(' | ')} |`
  process.stdout.write(`${head}\n| --- |${' --- |'.repeat(counts.length)}\n`)
  for (const [name, rounds] of found) {
    const cells = counts.map((_, index) => {
      const cost = median(rounds.map((costs) => costs[index]!)).toFixed(0)
      const ratio = median(rounds.map((costs, round) => own[round]![index]! / costs[index]!)).toFixed(2)
      return rounds === own ? cost : `${cost} (${ratio} ×)`
    })
    process.stdout.write(`| ${name} | ${cells.join(' | ')} |\n`)
  }
}

if (process.argv[1] === import.meta.filename) await main()
