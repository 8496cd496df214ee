import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { COST_NAMES, costs, type CpuProfile } from './cpu-profile.ts'
import type { Effort, Subject } from './scenario.ts'
import { publishes, TIMES } from './scenarios/publish.ts'
import { ROOT, Stage } from './stage.ts'
import { median } from './statistics.ts'

/** How many microseconds of each request a subject spends on each of `COST_NAMES`, by V8's CPU profile. */
export async function profile(subject: Subject, node: string, effort: Effort): Promise<number[]> {
  const directory = mkdtempSync(join(tmpdir(), 'causeway-profile-'))
  const stage = new Stage(node, join(ROOT, 'dist'), ['--cpu-prof', `--cpu-prof-dir=${directory}`])
  try {
    const { rate } = await subject.measure(stage, effort).finally(() => stage.end())
    // There is a file for each thread. The main thread is 0.
    const file = readdirSync(directory).find((name) => /^CPU\.\d+\.\d+\.\d+\.0\./.test(name))!
    const { warmUp, seconds } = TIMES[effort]
    return costs(JSON.parse(readFileSync(join(directory, file), 'utf8')) as CpuProfile, { skipS: warmUp, seconds }).map(
      (cost) => cost / rate!,
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function row(title: string, values: string[]): string {
  return `| ${title} | ${values.join(' | ')} |\n`
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      qos: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '3' },
      node: { type: 'string', default: process.execPath },
    },
  })
  const { subjects } = publishes.find(({ name }) => name === `publish-qos-${values.qos}`)!
  const columns = new Map<string, number[][]>()
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const subject of Object.values(subjects)) {
      const column = await profile(subject, values.node, 'full')
      columns.set(subject.title, [...(columns.get(subject.title) ?? []), column])
      process.stderr.write(`${subject.title}: ${column.reduce((sum, cost) => sum + cost, 0).toFixed(1)} µs/request\n`)
    }
  }
  const medians = [...columns.values()].map((rounds) =>
    COST_NAMES.map((_, cost) => median(rounds.map((column) => column[cost]!))),
  )
  const text = (cost: number): string => (cost < 0.05 ? '–' : cost.toFixed(1))
  process.stdout.write(
    row('µs/request', [...columns.keys()]) +
      row(
        '---',
        [...columns.keys()].map(() => '---'),
      ),
  )
  for (const [index, title] of COST_NAMES.entries()) {
    process.stdout.write(
      row(
        title,
        medians.map((column) => text(column[index]!)),
      ),
    )
  }
  process.stdout.write(
    row(
      'all',
      medians.map((column) => text(column.reduce((sum, cost) => sum + cost, 0))),
    ),
  )
}

if (process.argv[1] === import.meta.filename) await main()
