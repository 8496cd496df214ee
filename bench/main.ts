import { spawnSync } from 'node:child_process'
import { loadavg } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { countInstructions } from './instructions.ts'
import { measure } from './measure.ts'
import { linesOf, type Result, sideBySide, table } from './report.ts'
import { keep } from './results.ts'
import { against } from './scenario.ts'
import { scenarios } from './scenarios.ts'
import type { Stage } from './stage.ts'

const USAGE = `npm run bench -- [SCENARIO…] [--quick] [--rounds N] [--node PATH]… [--against DIST] [--keep]

SCENARIO     ${scenarios.map(({ name }) => name).join(' ')}
--quick      one short round of everything, within two minutes
--rounds N   rounds of each pair (5; of soak and instead 1)
--node PATH  the Node binary for the bridge and the baselines; may be repeated
--against DIST  compare with another build of the bridge, not with the baselines; writes no results
--keep       write results.json and README.md, which --quick does not do otherwise

npm run bench -- --instructions [WORK…] [--against DIST] [--check] [--record]
             instructions of a request, a message and an event, in place of times
`

const COUNTS = '--instructions'
if (process.argv.includes(COUNTS)) {
  await countInstructions(process.argv.slice(2).filter((argument) => argument !== COUNTS))
  process.exit()
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    node: { type: 'string', multiple: true, default: [process.execPath] },
    against: { type: 'string' },
    keep: { type: 'boolean' },
    help: { type: 'boolean', default: false },
  },
})
const unknown = positionals.filter((name) => !scenarios.some((scenario) => scenario.name === name))
if (values.help || unknown.length > 0) {
  process.stdout.write(unknown.length > 0 ? `there is no scenario ${unknown.join(', ')}\n${USAGE}` : USAGE)
  process.exit(unknown.length > 0 ? 1 : 0)
}

let current: Stage | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void Promise.resolve(current?.end()).finally(() => process.exit(1)))
}

const chosen = scenarios.filter(({ name, long = false }) =>
  positionals.length > 0 ? positionals.includes(name) : !long,
)
const compared =
  values.against === undefined ? chosen : chosen.map((scenario) => against(scenario, resolve(values.against!)))
const results: Result[] = []
for (const scenario of compared) {
  for (const node of values.node) {
    const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim()
    const rounds = Number(values.rounds ?? (values.quick || scenario.long ? 1 : 5))
    process.stderr.write(`\n${scenario.title} (${version}, load ${loadavg()[0]!.toFixed(1)})\n`)
    const samples = await measure(scenario, {
      node,
      effort: values.quick ? 'quick' : 'full',
      rounds,
      onStage: (stage) => {
        current = stage
      },
      onSample: (subject, sample) =>
        process.stderr.write(
          `  ${subject}: ${Object.entries(sample)
            .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
            .join(', ')}\n`,
        ),
    })
    const result: Result = {
      scenario: scenario.name,
      title: scenario.title,
      node: version,
      effort: values.quick ? 'quick' : 'full',
      rounds,
      at: new Date().toISOString(),
      lines: linesOf(scenario, samples),
      ...(scenario.sideBySide && { sideBySide: sideBySide(scenario, samples) }),
      samples,
    }
    results.push(result)
    if (values.against === undefined && (values.keep ?? !values.quick)) keep([result])
  }
}
process.stdout.write(`\n${table(results)}`)
