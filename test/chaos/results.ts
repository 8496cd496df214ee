import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Row } from './run.ts'

/** The last run of each fault, as `docs/chaos.md` shows it. */
export interface Result extends Row {
  /** As `2026-11-26`. */
  day: string
  node: string
  seed: number
}

const FILE = resolve(import.meta.dirname, 'results.json')

export function readResults(): Result[] {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Result[]
}

/** Replaces the results of these faults, and leaves the others. */
export function saveResults(rows: readonly Row[], seed: number): Result[] {
  const day = new Date().toISOString().slice(0, 10)
  const fresh = rows.map((row) => ({ ...row, day, node: process.version, seed }))
  const kept = readResults().filter(({ fault }) => !fresh.some((one) => one.fault === fault))
  const all = [...kept, ...fresh]
  writeFileSync(FILE, `${JSON.stringify(all, undefined, 2)}\n`)
  return all
}
