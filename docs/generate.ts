import { readFileSync, writeFileSync } from 'node:fs'
import { ConfigSchema, variableName } from '../src/config/config.ts'
import { PROBLEM_KINDS } from '../src/errors.ts'
import { createMetrics } from '../src/metrics.ts'

type Rows = readonly (readonly string[])[]

/** Every table that is written from the code, by its name in the page: the cells of its head, then those of each row. */
const TABLES: Record<string, { page: string; head: readonly string[]; rows: () => Rows | Promise<Rows> }> = {
  settings: { page: 'configuration.md', head: ['variable', 'default', ''], rows: settings },
  problems: { page: 'errors.md', head: ['code', 'status', 'retryable', ''], rows: problems },
  metrics: { page: 'metrics.md', head: ['metric', 'labels', ''], rows: metrics },
}

/** The pages that have tables written from the code, as they are and as they should be. */
export async function generatedPages(): Promise<{ page: string; committed: string; generated: string }[]> {
  return await Promise.all(
    Object.entries(TABLES).map(async ([name, { page, head, rows }]) => {
      const committed = readFileSync(new URL(page, import.meta.url), 'utf8')
      return { page, committed, generated: withTable(committed, name, table(head, await rows())) }
    }),
  )
}

function withTable(text: string, name: string, rows: string): string {
  const begin = `<!-- table ${name}, written by \`npm run docs\` -->\n`
  const end = '<!-- end of table -->\n'
  const from = text.indexOf(begin) + begin.length
  const to = text.indexOf(end, from)
  if (from < begin.length || to < 0) throw new Error(`the page has no place for the table ${name}`)
  return `${text.slice(0, from)}\n${rows}\n${text.slice(to)}`
}

function table(head: readonly string[], rows: Rows): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`.replaceAll('|  |', '| |'))
    .join('')
}

function settings(): Rows {
  const properties = ConfigSchema.properties as Record<string, { default?: unknown; description?: string }>
  return Object.entries(properties).map(([key, { default: fallback, description }]) => [
    `\`${variableName(key)}\``,
    fallback === undefined ? '–' : `\`${String(fallback)}\``,
    description ?? '',
  ])
}

function problems(): Rows {
  return [...PROBLEM_KINDS.values()].map(({ code, status, title, retryable }) => [
    `\`${code}\``,
    String(status),
    retryable ? 'yes' : 'no',
    title,
  ])
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
