import { readFileSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { allSettings } from '../src/config/setting.ts'
import { PROBLEM_KINDS } from '../src/errors.ts'
import { GAP_REASONS } from '../src/http/message/event-schemas.ts'
import { problemExamples } from '../src/http/message/problem-responses.ts'
import { createMetrics } from '../src/metrics.ts'
import { FIRST_REFUSAL, reasonName, refusal } from '../src/mqtt/reason-codes.ts'
import { CHECKS } from '../test/clients/checks.ts'
import { KINDS } from '../test/clients/kinds.ts'
import { readRuns } from '../test/clients/results.ts'

type Rows = readonly (readonly string[])[]

/** What is written from the code, by its name in the page. */
const TABLES: Record<string, () => string | Promise<string>> = {
  settings,
  problems: () => table(['code', 'status', 'retryable', '', 'for example'], problems()),
  reasons: () => table(['the broker says', '', 'status', 'code'], reasons()),
  gaps: () =>
    table(
      ['reason', ''],
      Object.entries(GAP_REASONS).map(([reason, meaning]) => [`\`${reason}\``, meaning]),
    ),
  metrics: async () => table(['metric', 'labels', ''], await metrics()),
  clients: () => table(['client', 'version', ...CHECKS, 'run'], clients()),
  notes: () =>
    table(
      ['client', ''],
      KINDS.map(({ name, note }) => [name, note]),
    ),
}
const PAGES = ['configuration.md', 'errors.md', 'metrics.md', 'clients.md', 'subscribing.md']
const LANGUAGES: Record<string, string> = { '.mjs': 'js', '.py': 'python', '.go': 'go', '.java': 'java', '.sh': 'bash' }

const PART = /<!-- (table|file) (\S+), written by `npm run docs` -->\n[^]*?<!-- end of \1 -->\n/g

/** The pages that have parts written from the code, as they are and as they should be. */
export async function generatedPages(): Promise<{ page: string; committed: string; generated: string }[]> {
  const tables = Object.fromEntries(
    await Promise.all(Object.entries(TABLES).map(async ([name, write]) => [name, await write()] as const)),
  )
  return PAGES.map((page) => {
    const committed = readFileSync(new URL(page, import.meta.url), 'utf8')
    const generated = committed.replaceAll(PART, (_part, kind: string, name: string) => {
      const content = kind === 'table' ? tables[name] : included(name)
      if (content === undefined) throw new Error(`${page}: there is no table ${name}`)
      return `<!-- ${kind} ${name}, written by \`npm run docs\` -->\n\n${content}\n<!-- end of ${kind} -->\n`
    })
    return { page, committed, generated }
  })
}

function included(path: string): string {
  const text = readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
  return `\`\`\`${LANGUAGES[extname(path)]}\n${text.trimEnd()}\n\`\`\`\n`
}

function table(head: readonly string[], rows: Rows): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`.replaceAll('|  |', '| |'))
    .join('')
}

/** A heading and a table for each group of settings. */
function settings(): string {
  const groups = new Map<string, string[][]>()
  for (const { group, variable, fallback, description, isSecret } of allSettings()) {
    const rows = groups.get(group) ?? []
    groups.set(group, rows)
    const text = isSecret ? `${description}. Also from a file: \`${variable}_FILE\`` : description
    rows.push([`\`${variable}\``, fallback === undefined ? '–' : `\`${fallback}\``, text])
  }
  return [...groups].map(([group, rows]) => `## ${group}\n\n${table(['variable', 'default', ''], rows)}`).join('\n')
}

function problems(): Rows {
  const examples = problemExamples() as Record<string, { value: { detail: string } }>
  return [...PROBLEM_KINDS.values()].map(({ code, status, title, retryable }) => [
    `\`${code}\``,
    String(status),
    retryable ? 'yes' : 'no',
    title,
    `${examples[code]!.value.detail}`,
  ])
}

/** The reason codes of MQTT 5 that have a problem of their own, then all others. */
function reasons(): Rows {
  const codes = Array.from({ length: 0x100 - FIRST_REFUSAL }, (_, index) => FIRST_REFUSAL + index)
  const other = refusal(FIRST_REFUSAL, '').kind
  const own = codes
    .map((code) => ({ code, kind: refusal(code, '').kind }))
    .filter(({ kind }) => kind !== other)
    .map(({ code, kind }) => [`0x${code.toString(16)}`, reasonName(code), String(kind.status), `\`${kind.code}\``])
  return [...own, [`any other from 0x${FIRST_REFUSAL.toString(16)} on`, '', String(other.status), `\`${other.code}\``]]
}

async function metrics(): Promise<Rows> {
  const { text } = createMetrics('0')
  return (await text.getMetricsAsJSON())
    .filter(({ name }) => name.startsWith('causeway_'))
    .map(({ name, help }) => {
      const { labelNames } = text.getSingleMetric(name) as unknown as { labelNames: string[] }
      return [`\`${name}\``, labelNames.map((label) => `\`${label}\``).join(', ') || '–', help]
    })
}

function clients(): Rows {
  return readRuns().map(({ name, version, day, outcomes }) => [
    name,
    version,
    ...CHECKS.map((check) => outcomes[check] ?? '–'),
    day,
  ])
}

if (process.argv[1] === import.meta.filename) {
  for (const { page, committed, generated } of await generatedPages()) {
    if (generated === committed) continue
    if (!process.argv.includes('--check')) writeFileSync(new URL(page, import.meta.url), generated)
    else {
      process.stderr.write(`docs/${page} is not what the code says: run npm run docs\n`)
      process.exitCode = 1
    }
  }
  // Metrics of the process keep an observer open.
  process.exit()
}
