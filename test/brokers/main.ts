import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { BrokerKind } from './broker-process.ts'
import type { Check } from './check.ts'
import { capabilities } from './checks/all.ts'
import { render } from './document.ts'
import { documentedProblems } from './outcome.ts'
import { named, replaceRuns, type Run, tally, writeRuns } from './results.ts'
import { runBroker } from './run.ts'
import { brokerKinds } from './start/all.ts'

const ERRORS = fileURLToPath(new URL('../../docs/errors.md', import.meta.url))
const DOCUMENT = fileURLToPath(new URL('../../docs/brokers.md', import.meta.url))

/** Brokers that `--brief` runs at the same time: their checks mostly wait. */
const SIDE_BY_SIDE = 2

const SUPPORTED = brokerKinds.filter(({ unsupported }) => unsupported !== true).map(({ name }) => name)
const UNSUPPORTED = brokerKinds.filter(({ unsupported }) => unsupported === true).map(({ name }) => name)

const HELP = `npm run test:brokers [-- NAME… | all] [--only TEXT] [--brief] [--document]

Runs every check on the named brokers, else on those that CI runs, and writes docs/brokers.md.
  --only TEXT   the checks whose title holds this, or one of several with | between; of the
                others the last results stay
  --brief       the checks that CI runs; writes nothing
  --document    runs nothing: writes docs/brokers.md from the last results
Names: ${SUPPORTED.join(' ')}
Not supported, so not in the document, and not among \`all\`: ${UNSUPPORTED.join(' ')}
CAUSEWAY_TEST_REPORT is a file for the counts, in the form of Vitest's.
CAUSEWAY_BROKERS_CACHE is where brokers are fetched to, CAUSEWAY_BROKERS_TRACES where packets of failed checks go.
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    brief: { type: 'boolean' },
    document: { type: 'boolean' },
    help: { type: 'boolean' },
  },
})
// The brokers are processes of their own, which would go on.
const interruption = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort())
process.exitCode = await main(interruption.signal)

async function main(interrupted: AbortSignal): Promise<number> {
  const names = brokerKinds.map(({ name }) => name)
  const unknown = positionals.filter((name) => name !== 'all' && !names.includes(name))
  if (values.help === true || unknown.length > 0) {
    process.stderr.write(unknown.length > 0 ? `no broker is called ${unknown.join(', ')}\n\n${HELP}` : HELP)
    return unknown.length > 0 ? 2 : 0
  }
  const kinds = brokerKinds.filter(({ name, everywhere }) =>
    positionals.length === 0
      ? everywhere === true
      : positionals.includes(name) || (positionals.includes('all') && SUPPORTED.includes(name)),
  )
  const documented = documentedProblems(readFileSync(ERRORS, 'utf8'))
  const only = values.only?.toLowerCase().split('|')
  const isChosen = ({ title, isBrief }: Check): boolean =>
    (values.brief !== true || isBrief === true) &&
    (only === undefined || only.some((text) => title.toLowerCase().includes(text)))
  const runs: Run[] = []
  const missing: string[] = []
  let broken = false

  async function runKind(kind: BrokerKind): Promise<void> {
    // Those of brokers that run side by side do not mix.
    const lines: string[] = []
    const report = (line: string): void => void (values.brief === true ? lines.push(line) : console.log(line))
    try {
      const installed = await kind.install({ isBrief: values.brief === true })
      if (typeof installed === 'string') return void missing.push(`${kind.name}: ${installed}`)
      report(`${kind.title} ${installed.version}`)
      runs.push(...(await runBroker(kind, installed, { documented, isChosen, report, interrupted })))
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error)
      // One that CI runs has to run.
      if (kind.everywhere === true) broken = true
      missing.push(`${kind.name}: ${said}`)
    }
    for (const line of lines) console.log(line)
    // What has been run stays, should a later broker hang the machine.
    if (values.brief !== true) write(runs)
  }
  const waiting = values.document === true ? [] : [...kinds]
  async function runNext(): Promise<void> {
    for (let kind = waiting.shift(); kind !== undefined && !interrupted.aborted; kind = waiting.shift()) {
      await runKind(kind)
    }
  }
  await Promise.all(Array.from({ length: values.brief === true ? SIDE_BY_SIDE : 1 }, runNext))
  if (interrupted.aborted) return 130
  if (values.document === true) write([])

  console.log('')
  for (const run of runs) console.log(`${named(run)}: ${run.unspoken ?? tally(run)}`)
  for (const line of missing) console.log(`skipped ${line}`)
  const outcomes = runs.flatMap((run) => Object.values(run.outcomes))
  const wrong = outcomes.filter(({ outcome }) => outcome === 'wrong').length
  console.log(`${outcomes.length - wrong} passed, ${wrong} failed, ${missing.length} skipped`)
  const required =
    process.env['CI'] !== undefined &&
    missing.some((line) => kinds.some((kind) => kind.everywhere && line.startsWith(`${kind.name}:`)))
  const hasFailed = wrong > 0 || broken || required || (runs.length === 0 && values.document !== true)
  const file = process.env['CAUSEWAY_TEST_REPORT']
  if (file !== undefined) {
    const counts = { numTotalTests: outcomes.length, numPassedTests: outcomes.length - wrong, numFailedTests: wrong }
    writeFileSync(file, JSON.stringify({ ...counts, success: !hasFailed, testResults: [] }))
  }
  return hasFailed ? 1 : 0
}

function write(ran: Run[]): void {
  const runs = ran.filter(({ name }) => SUPPORTED.includes(name))
  const titles = capabilities.flatMap(({ checks }) => checks.map(({ title }) => title))
  const all = replaceRuns(runs, SUPPORTED, titles)
  writeRuns(all)
  writeFileSync(DOCUMENT, render(all, capabilities))
}
