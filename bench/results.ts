import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { type Result, table } from './report.ts'
import { scenarios } from './scenarios.ts'
import { ROOT } from './stage.ts'

const JSON_FILE = join(ROOT, 'bench/results.json')
const README = join(ROOT, 'bench/README.md')
const [BEGIN, END] = ['<!-- results -->\n', '<!-- /results -->']

/** Replaces the earlier results of the same scenarios and Nodes, in results.json and in the README's table. */
export function keep(fresh: readonly Result[]): void {
  const { results: before = [] } = existsSync(JSON_FILE)
    ? (JSON.parse(readFileSync(JSON_FILE, 'utf8')) as { results: Result[] })
    : {}
  const isReplaced = (old: Result): boolean =>
    fresh.some(({ scenario, node }) => scenario === old.scenario && node === old.node)
  const sortKey = ({ scenario, node }: Result): string =>
    `${String(scenarios.findIndex(({ name }) => name === scenario)).padStart(3, '0')} ${node}`
  const kept = before.filter((old) => !isReplaced(old))
  const results = [...kept, ...fresh].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1))
  writeFileSync(JSON_FILE, `${JSON.stringify({ machine: machine(), results }, null, 1)}\n`)
  const readme = readFileSync(README, 'utf8')
  const [head, tail] = [readme.slice(0, readme.indexOf(BEGIN) + BEGIN.length), readme.slice(readme.indexOf(END))]
  writeFileSync(README, `${head}\n${table(results)}\n${tail}`)
}

function machine(): object {
  const processors = cpus()
  return {
    processor: processors[0]?.model.trim(),
    processors: processors.length,
    platform: `${process.platform} ${process.arch}`,
  }
}
