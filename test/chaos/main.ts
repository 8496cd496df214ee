import { writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import type { BrokerKind } from './broker.ts'
import { writeDocument } from './document.ts'
import { briefFaults, faults } from './faults.ts'
import { saveResults } from './results.ts'
import { TABLE_HEAD, tableRow } from './report.ts'
import { type Row, runFault, type RunOptions } from './run.ts'
import { seedFromEnvironment } from './seed.ts'
import type { Stage } from './stage.ts'

const USAGE = `npm run chaos [-- FAULT… --brief --broker KIND --protocol VERSION --document --json FILE --keep-logs --list]

FAULT               those to make, one after the other; all unless named
--brief             the most important ones, about two minutes
--broker KIND       mosquitto (default) or embedded, the one that Causeway brings
--protocol VERSION  5 (default) or 3.1.1
--document          keeps the rows in results.json, and writes docs/chaos.md
--json FILE         writes the rows there as well, to compare them with another run's
--keep-logs         keeps the logs of brokers and bridges; the notes say where
--list              says which faults there are

CAUSEWAY_TEST_SEED makes a run again, as far as timing lets it. The exit code is 1 where a row breaks a rule.
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    brief: { type: 'boolean', default: false },
    broker: { type: 'string', default: 'mosquitto' },
    protocol: { type: 'string', default: '5' },
    document: { type: 'boolean', default: false },
    json: { type: 'string' },
    'keep-logs': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const unknown = positionals.filter((name) => !faults.some((fault) => fault.name === name))
const isWrong =
  unknown.length > 0 || !['mosquitto', 'embedded'].includes(values.broker) || !['5', '3.1.1'].includes(values.protocol)
if (values.help || isWrong) {
  process.stdout.write(unknown.length > 0 ? `there is no fault ${unknown.join(', ')}\n${USAGE}` : USAGE)
  process.exit(isWrong ? 2 : 0)
}
if (values.list) {
  for (const { name, what } of faults) process.stdout.write(`${name.padEnd(30)} ${what}\n`)
  process.exit(0)
}

let current: Stage | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void Promise.resolve(current?.end()).finally(() => process.exit(1)))
}

const options: RunOptions = {
  seed: seedFromEnvironment(),
  broker: values.broker as BrokerKind,
  protocol: values.protocol as RunOptions['protocol'],
  keepsLogs: values['keep-logs'],
  onStage: (stage) => {
    current = stage
  },
}
const all = values.brief ? briefFaults : faults
const chosen = positionals.length > 0 ? faults.filter(({ name }) => positionals.includes(name)) : all
process.stderr.write(`CAUSEWAY_TEST_SEED=${options.seed}\n`)
const rows: Row[] = []
const failed: string[] = []
process.stdout.write(TABLE_HEAD)
for (const fault of chosen) {
  const reason = fault.skip?.(options)
  if (reason !== undefined) {
    process.stderr.write(`${fault.name}: skipped, ${reason}\n`)
    continue
  }
  process.stderr.write(`${fault.name} (load ${loadavg()[0]!.toFixed(1)}) … `)
  try {
    const row = await runFault(fault, options)
    rows.push(row)
    process.stdout.write(tableRow(row))
    process.stderr.write(`${row.seconds} s, ${row.breaks.length === 0 ? 'holds' : row.breaks.join('; ')}\n`)
  } catch (error) {
    // The others are made all the same.
    failed.push(fault.name)
    process.stderr.write(`could not be made: ${(error as Error).message}\n`)
  }
}
if (values.json !== undefined) {
  const { seed, broker, protocol } = options
  const run = { at: new Date().toISOString(), node: process.version, seed, broker, protocol, rows }
  writeFileSync(values.json, `${JSON.stringify(run, undefined, 2)}\n`)
}
// After each run of some, so that one row can be made again.
if (values.document) writeDocument(saveResults(rows, options.seed))
process.exit(failed.length > 0 || rows.some(({ breaks }) => breaks.length > 0) ? 1 : 0)
