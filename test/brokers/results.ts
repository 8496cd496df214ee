import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Protocol } from './ground.ts'
import type { Outcome } from './outcome.ts'

const FILE = fileURLToPath(new URL('results.json', import.meta.url))

/** One broker over one protocol. */
export interface Run {
  /** The broker's name on the command line. */
  name: string
  title: string
  version: string
  protocol: Protocol
  /** The day it was run. */
  day: string
  /** Why the broker does not speak the protocol; nothing was run then. */
  unspoken?: string
  /** By the checks' titles. */
  outcomes: Record<string, Outcome>
}

/** The last run of each broker and protocol, of this machine or another. */
export function readRuns(): Run[] {
  return existsSync(FILE) ? (JSON.parse(readFileSync(FILE, 'utf8')) as Run[]) : []
}

/**
 * Puts these in place of earlier runs of the same brokers.
 * @param names in the order that the runs are to have
 * @param titles of the checks there are. Where only some were run, an earlier run of this version speaks for the others.
 */
export function replaceRuns(runs: Run[], names: string[], titles: string[]): Run[] {
  const earlier = readRuns()
  const fresh = new Set(runs.map(({ name }) => name))
  const merged = runs.map((run) => {
    const before = earlier.find(
      ({ name, protocol, version }) => name === run.name && protocol === run.protocol && version === run.version,
    )
    const outcomes = { ...before?.outcomes, ...run.outcomes }
    const known = titles.flatMap((title) => (outcomes[title] === undefined ? [] : [[title, outcomes[title]] as const]))
    return { ...run, outcomes: Object.fromEntries(known) }
  })
  return [...earlier.filter(({ name }) => !fresh.has(name) && names.includes(name)), ...merged].sort(
    (a, b) => names.indexOf(a.name) - names.indexOf(b.name),
  )
}

export function writeRuns(runs: Run[]): void {
  writeFileSync(FILE, `${JSON.stringify(runs, undefined, 2)}\n`)
}

export const named = ({ title, version, protocol }: Run) => `${title} ${version}, MQTT ${protocol}`

export function tally({ outcomes }: Run): string {
  const all = Object.values(outcomes)
  const count = (kind: Outcome['outcome']) => all.filter(({ outcome }) => outcome === kind).length
  const others = `${count('refused')} refused, ${count('limit')} limited, ${count('wrong')} wrong`
  return `${count('held')} of ${all.length} held, ${others}`
}
