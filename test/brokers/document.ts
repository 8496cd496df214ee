import type { Capability } from './check.ts'
import { type Documented, documentedBrokers, unavailableBrokers, unsupportedBrokers } from './documented.ts'
import type { Outcome } from './outcome.ts'
import type { Run } from './results.ts'

/** So many brokers stand side by side in a table. */
const COLUMNS = 7

/** `docs/brokers.md`. */
export function render(runs: Run[], capabilities: Capability[]): string {
  const spoken = runs.filter(({ unspoken }) => unspoken === undefined)
  const sections = [
    INTRODUCTION,
    '## At a glance\n',
    overview(runs),
    '## What each broker does\n',
    ...chunks(spoken, COLUMNS).map((some) => matrix(some, capabilities)),
    '## Why\n',
    ...spoken.map((run) => reasons(run, capabilities)),
    '## Not supported\n',
    'Brokers that do not keep what they acknowledge, or break MQTT in another way that no bridge can make good. They\n' +
      'were run, and can be run again by their name.\n',
    ...unsupportedBrokers.map(({ title, faults }) => `### ${title}\n\n${faults.map((line) => `- ${line}\n`).join('')}`),
    '## Not run: what their documents say\n',
    ...documentedBrokers.map(documentation),
    `Not to be had where this was run:\n\n${unavailableBrokers.map((line) => `- ${line}\n`).join('')}`,
  ]
  return `${sections.join('\n').trimEnd()}\n`
}

const INTRODUCTION = `# Brokers

What of the [README](../README.md) holds on which broker. Written by \`npm run test:brokers\`, which runs the
built bridge on brokers it starts with their own defaults; do not edit it by hand.

| | |
| --- | --- |
| yes | the promise was kept |
| no: *status* | refused, with a problem of that status |
| limit | less than the promise, and said so: by a \`gap\`, a field of the answer, \`/readyz?verbose\` or the log |
| **wrong** | not kept, and not said: the run fails |
| – | not run |

[Why](#why) has the reasons for each broker.
`

function overview(runs: Run[]): string {
  const rows = runs.map((run) => {
    const { title, version, protocol, unspoken, outcomes, name, day } = run
    const count = (kind: Outcome['outcome']) => Object.values(outcomes).filter(({ outcome }) => outcome === kind).length
    const counts =
      unspoken === undefined
        ? [`${count('held')} of ${Object.keys(outcomes).length}`, count('refused'), count('limit'), count('wrong')]
        : ['does not speak it', '', '', '']
    return [`${title} ${version}`, protocol, ...counts, `\`${name}\``, day]
  })
  return table(['broker', 'MQTT', 'yes', 'no', 'limit', 'wrong', '`npm run test:brokers --`', 'run'], rows)
}

function matrix(runs: Run[], capabilities: Capability[]): string {
  const rows = capabilities.flatMap(({ title, checks }) => [
    [`**${title}**`, ...runs.map(() => '')],
    ...checks.map((check) => [escaped(check.title), ...runs.map(({ outcomes }) => cell(outcomes[check.title]))]),
  ])
  return table(['', ...runs.map(({ title, version, protocol }) => `${title} ${version}, ${protocol}`)], rows)
}

function cell(outcome: Outcome | undefined): string {
  switch (outcome?.outcome) {
    case undefined:
      return '–'
    case 'held':
      return 'yes'
    case 'refused':
      return `no: ${outcome.status}`
    case 'limit':
      return 'limit'
    case 'wrong':
      return '**wrong**'
  }
}

function reasons({ title, version, protocol, outcomes }: Run, capabilities: Capability[]): string {
  const lines = capabilities.flatMap(({ checks }) =>
    checks.flatMap((check) => {
      const outcome = outcomes[check.title]
      if (outcome === undefined || outcome.outcome === 'held') return []
      const problem = outcome.outcome === 'refused' ? `no, ${outcome.status} \`${outcome.code}\`` : cell(outcome)
      return [`- ${check.title}: ${problem}. ${plain(outcome.why)}\n`]
    }),
  )
  return `### ${title} ${version}, MQTT ${protocol}\n\n${lines.length === 0 ? 'Everything holds.\n' : lines.join('')}`
}

function documentation({ title, sources, says, follows }: Documented): string {
  const links = sources.map((source, index) => `[${index + 1}](${source})`).join(', ')
  const list = (lines: string[]) => lines.map((line) => `- ${line}\n`).join('')
  return [
    `### ${title} (not run)\n`,
    `Its documents say (${links}):\n`,
    list(says),
    `What follows, by them:\n`,
    list(follows),
  ].join('\n')
}

/** Without what differs from run to run: the topics' random beginning. */
const plain = (why: string) =>
  why
    .replaceAll(/suite-[0-9a-f]{8}\//g, '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/([*_<>])/g, '\\$1')

const escaped = (text: string) => text.replaceAll('|', '\\|')

const table = (head: string[], rows: (string | number)[][]) =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`).join('')

const chunks = <T>(all: T[], size: number) =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, index) => all.slice(index * size, (index + 1) * size))
