import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { faults } from './faults.ts'
import { TABLE_HEAD, tableRow } from './report.ts'
import type { Result } from './results.ts'

const PAGE = resolve(import.meta.dirname, '../../docs/chaos.md')

const INTRODUCTION = `# What faults do

Each row is a fault that was made to a running bridge, its broker or the link between them, under a load of 120 messages a
second with five readers. Written by \`npm run chaos -- --document\`; do not edit it by hand.
[test/chaos](../test/chaos/README.md) says what runs, and what each column means.

To hold: nothing that was answered 200 never arrives, nothing is missed without a \`gap\`, nothing is twice at QoS 2, all works
again within five seconds of the fault's end (or what the fault allows), and each 503 has \`Retry-After\`. What breaks that is in
bold, with the load average of the machine: times mean little where others use its two cores. \`unknown\` and \`not-sent\`
are what the answer says of its message.

`

/** What is known of faults that break a rule. Shown below the table while they do. */
const KNOWN: Record<string, string> = {
  'batch-through-caddy':
    'Caddy ends an answer that was cut short as if it were whole. The last line, `"end": true`, is then missing: look ' +
    'for it.',
}

/** `docs/chaos.md`, with the faults in the order in which they run. */
export function render(results: readonly Result[]): string {
  const inOrder = faults.flatMap(({ name }) => results.find(({ fault }) => fault === name) ?? [])
  const broken = inOrder.filter(({ breaks }) => breaks.length > 0).length
  const sum = (count: (row: Result) => number) => inOrder.reduce((total, row) => total + count(row), 0)
  const days = [...new Set(inOrder.map(({ day }) => day))].toSorted()
  const nodes = [...new Set(inOrder.map(({ node }) => node))].toSorted()
  const loads = inOrder.map(({ machineLoad }) => machineLoad)
  const summary =
    `${inOrder.length} faults, ${broken === 0 ? 'none' : broken} of which broke a rule: of ` +
    `${sum(({ answered200 }) => answered200)} publishes that were answered 200 ` +
    `${sum(({ neverArrived }) => neverArrived)} never arrived, ` +
    `${sum(({ missed }) => missed)} messages were missed without a gap, and ` +
    `${sum(({ duplicatesQos2 }) => duplicatesQos2)} came twice at QoS 2. ` +
    `Run on ${days.join(', ')} with Node ${nodes.join(', ')} and Mosquitto, on two cores whose load average was ` +
    `${Math.min(...loads)} to ${Math.max(...loads)}.\n\n`
  const known = inOrder.flatMap(({ fault, breaks }) =>
    breaks.length > 0 && KNOWN[fault] !== undefined ? [`- \`${fault}\`: ${KNOWN[fault]}\n`] : [],
  )
  const rows = TABLE_HEAD + inOrder.map(tableRow).join('')
  return INTRODUCTION + summary + rows + (known.length > 0 ? `\nKnown:\n\n${known.join('')}` : '')
}

export function writeDocument(results: readonly Result[]): void {
  writeFileSync(PAGE, render(results))
}
