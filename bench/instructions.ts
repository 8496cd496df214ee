import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { callgrindOptions, Counted, NAME_CODE, VALGRIND } from './callgrind.ts'
import { mqttPublisher } from './scenarios/fan-out.ts'
import { startBridge } from './servers/bridge.ts'
import { startMosquitto } from './servers/mosquitto.ts'
import { startLeastBridge } from './servers/start-least-bridge.ts'
import { ROOT, Stage } from './stage.ts'
import { median } from './statistics.ts'

/** What is recorded, by the name of the work. */
interface Recorded {
  node: string
  instructions: Record<string, number>
}

const FILE = join(ROOT, 'bench/instructions.json')
/** How many more instructions a change may cost than are recorded. */
const MARGIN = 1.1
const PROCESSES = 3
const WARM_UPS = 5
const ROUNDS = 4
const REQUESTS = 4000
const CONNECTIONS = 16
const READERS = 100
/** How many functions `--functions` lists. */
const FUNCTIONS = 60

/** A server that is ready for its work: what is done in a round, and how many pieces that is. */
interface Ready {
  pid: number
  round: () => Promise<unknown>
  pieces: number
}

interface Work {
  title: string
  beside: string
  start(stage: Stage): Promise<Ready>
  startBeside(stage: Stage): Promise<Ready>
}

/** Publishes of one message each. */
function publishes(qos: number): Work {
  async function ready(stage: Stage, { port, pid }: { port: number; pid: number }): Promise<Ready> {
    const load = stage.worker('load/posts.ts')
    const run = { port, connections: CONNECTIONS, qos, requests: REQUESTS }
    return { pid, pieces: REQUESTS, round: () => load.call('run', run) }
  }
  return {
    title: `POST /publish at QoS ${qos}, a request`,
    beside: 'least bridge',
    async start(stage) {
      const { url } = await startMosquitto(stage)
      return ready(stage, await startBridge(stage, { MQTT_URL: url }))
    },
    async startBeside(stage) {
      const { port } = await startMosquitto(stage)
      return ready(stage, await startLeastBridge(stage, port))
    },
  }
}

/** Messages at QoS 0 that are delivered to so many readers of one topic. */
function deliveries(title: string, readers: number, messages: number): Work {
  async function ready(
    stage: Stage,
    mqttPort: number,
    { port, pid, path }: { port: number; pid: number; path: string },
  ): Promise<Ready> {
    const publisher = await mqttPublisher(stage, mqttPort)
    const load = stage.worker('load/readers.ts')
    await load.call('open', { port, paths: [path], count: readers })
    return {
      pid,
      pieces: messages * readers,
      async round() {
        await load.call('mark')
        await publisher.call('steadily', { topics: ['bench'], rate: messages, seconds: 1 })
        await load.call('settle', { each: messages })
      },
    }
  }
  return {
    title,
    beside: 'obvious Node server',
    async start(stage) {
      const { url, port: mqttPort } = await startMosquitto(stage)
      const { port, pid } = await startBridge(stage, { MQTT_URL: url })
      return ready(stage, mqttPort, { port, pid, path: '/subscribe?topic=bench' })
    },
    async startBeside(stage) {
      const { url: mqttUrl, port: mqttPort } = await startMosquitto(stage)
      const server = stage.baseline('servers/obvious.ts')
      const port = await server.call<number>('listen', { mqttUrl })
      return ready(stage, mqttPort, { port, pid: server.pid, path: '/?topic=bench' })
    },
  }
}

const WORKS: Record<string, Work> = {
  'publish-qos-0': publishes(0),
  'publish-qos-1': publishes(1),
  'publish-qos-2': publishes(2),
  message: deliveries('one reader, a message', 1, 1000),
  event: deliveries(`${READERS} readers, an event`, READERS, 100),
}

/**
 * Instructions of a process in user mode for a piece of work, once it is warm. What else the machine does changes
 * nothing in them. V8 does not compile the same code in each process, and sometimes badly: the least of them counts.
 */
async function instructionsOf(
  start: Work['start'],
  dist: string,
  isEnough: (least: number) => boolean = () => false,
): Promise<number> {
  let least = Infinity
  for (let process = 0; process < PROCESSES && !isEnough(least); process += 1) {
    const files = new Stage('', '')
    const directory = files.directory()
    const stage = new Stage(VALGRIND, dist, callgrindOptions(directory))
    try {
      const { pid, pieces, round } = await start(stage)
      for (let warmUp = 0; warmUp < WARM_UPS; warmUp += 1) await round()
      const counted = await Counted.begin(pid, directory)
      // The first round is for callgrind, which translates the code anew.
      await round()
      const counts: number[] = []
      for (let index = 0; index < ROUNDS; index += 1) counts.push((await counted.instructions(round)) / pieces)
      least = Math.min(least, median(counts))
    } finally {
      await stage.end()
      await files.end()
    }
  }
  return least
}

/** The same of each function, in one process. */
async function functionsOf(start: Work['start'], dist: string): Promise<Map<string, number>> {
  const files = new Stage('', '')
  const directory = files.directory()
  const stage = new Stage(VALGRIND, dist, [...callgrindOptions(directory), NAME_CODE])
  try {
    const { pid, pieces, round } = await start(stage)
    for (let warmUp = 0; warmUp < WARM_UPS; warmUp += 1) await round()
    const counted = await Counted.begin(pid, directory)
    await round()
    const found = await counted.functions(round)
    return new Map([...found].map(([name, count]) => [name, count / pieces]))
  } finally {
    await stage.end()
    await files.end()
  }
}

/** What each function costs beside the other server, those first that cost most more. */
async function functionTable(name: string, against: string | undefined): Promise<void> {
  const { title, beside, start, startBeside } = WORKS[name]!
  const own = await functionsOf(start, join(ROOT, 'dist'))
  const other = await functionsOf(against === undefined ? startBeside : start, against ?? join(ROOT, 'dist'))
  const rows = [...new Set([...own.keys(), ...other.keys()])]
    .map((each) => ({ each, own: own.get(each) ?? 0, other: other.get(each) ?? 0 }))
    .sort((one, two) => two.own - two.other - (one.own - one.other))
  const line = (each: string, ...counts: number[]): string =>
    `${counts.map((count) => count.toFixed(0).padStart(8)).join('')}  ${each.replace(`file://${ROOT}/`, '')}\n`
  const sum = (counts: Map<string, number>): number => [...counts.values()].reduce((total, count) => total + count, 0)
  process.stdout.write(
    `Instructions for ${title}: Causeway, ${against ?? beside}\n${line('all', sum(own), sum(other))}`,
  )
  for (const row of rows.slice(0, FUNCTIONS)) process.stdout.write(line(row.each, row.own, row.other))
}

function thousands(instructions: number): string {
  return (instructions / 1000).toFixed(1)
}

/** Sets the exit code to 1 where a work costs more than is recorded. */
async function check(names: string[], { node, instructions }: Recorded): Promise<void> {
  if (node !== process.version) {
    process.stdout.write(`Recorded with Node ${node}; ${process.version} executes others, so nothing is compared\n`)
    return
  }
  for (const name of names) {
    const recorded = instructions[name]
    if (recorded === undefined) throw new Error(`bench/instructions.json has no ${name}; record it with --record`)
    const limit = recorded * MARGIN
    const least = await instructionsOf(WORKS[name]!.start, join(ROOT, 'dist'), (count) => count <= limit)
    const text = `${name}: ${thousands(least)} thousand instructions, ${(least / recorded).toFixed(2)} of those recorded`
    process.stdout.write(`${text}${least > limit ? `: MORE THAN ${MARGIN}` : ''}\n`)
    if (least > limit) process.exitCode = 1
  }
}

async function table(names: string[], against: string | undefined): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  process.stdout.write('| thousand instructions for | Causeway | beside | | ratio |\n| --- | --- | --- | --- | --- |\n')
  for (const name of names) {
    const { title, beside, start, startBeside } = WORKS[name]!
    const own = await instructionsOf(start, join(ROOT, 'dist'))
    const other = await instructionsOf(against === undefined ? startBeside : start, against ?? join(ROOT, 'dist'))
    found[name] = Math.round(own)
    const ratio = (own / other).toFixed(2)
    process.stdout.write(`| ${title} | ${thousands(own)} | ${thousands(other)} | ${against ?? beside} | ${ratio} |\n`)
  }
  return found
}

/** What `npm run bench -- --instructions` and `npm run bench:instructions` do with these arguments. */
export async function countInstructions(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      against: { type: 'string' },
      check: { type: 'boolean', default: false },
      functions: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
    },
  })
  const unknown = positionals.find((name) => WORKS[name] === undefined)
  if (unknown !== undefined) throw new Error(`${unknown} is none of ${Object.keys(WORKS).join(', ')}`)
  const names = positionals.length > 0 ? positionals : Object.keys(WORKS)
  const recorded = JSON.parse(readFileSync(FILE, 'utf8')) as Recorded
  if (values.check) return check(names, recorded)
  if (values.functions) {
    for (const name of names) await functionTable(name, values.against)
    return
  }
  const found = await table(names, values.against)
  if (!values.record) return
  const instructions = { ...recorded.instructions, ...found }
  writeFileSync(FILE, `${JSON.stringify({ node: process.version, instructions }, null, 2)}\n`)
}

if (process.argv[1] === import.meta.filename) await countInstructions(process.argv.slice(2))
