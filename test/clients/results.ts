import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Outcomes } from './checks.ts'

const FILE = new URL('results.json', import.meta.url)

export interface ClientRun {
  name: string
  version: string
  /** The day it was run. */
  day: string
  outcomes: Outcomes
}

export function readRuns(): ClientRun[] {
  return existsSync(FILE) ? (JSON.parse(readFileSync(FILE, 'utf8')) as ClientRun[]) : []
}

export function writeRuns(runs: readonly ClientRun[]): void {
  writeFileSync(FILE, `${JSON.stringify(runs, undefined, 2)}\n`)
}
