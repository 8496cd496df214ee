import type { Stage } from './stage.ts'

/** `check` only shows that all of it works, with a handful of everything. */
export type Effort = 'check' | 'quick' | 'full'

/** What one measurement gave, by name. */
export type Sample = Record<string, number>

export interface Subject {
  /** As the table names it. */
  title: string
  /** Whether what it needs is installed. */
  isAvailable?: boolean
  /** Of another build than the one in dist/. */
  dist?: string
  measure(stage: Stage, effort: Effort): Promise<Sample>
}

/** A line of the table. */
export interface Row {
  what: string
  unit: string
  subject: string
  metric: string
  /** What it is compared with. */
  beside?: { subject: string; metric: string }
  /** Of the ratio where there is something to compare with, of the value itself where not. */
  target?: { atLeast: number } | { atMost: number }
}

/** Its subjects are measured in turns, several times, each time with processes of their own. */
export interface Scenario {
  name: string
  title: string
  subjects: Record<string, Subject>
  rows: Row[]
  /** Measured once, and only where it is asked for by name. */
  long?: boolean
}

/** The bridge alone, beside another build of it: what a change buys. */
export function against(scenario: Scenario, dist: string): Scenario {
  const { causeway } = scenario.subjects
  if (causeway === undefined) throw new Error(`${scenario.name} does not measure the bridge as such`)
  const metrics = new Set(scenario.rows.filter(({ subject }) => subject === 'causeway').map(({ metric }) => metric))
  const rows = [...metrics].map((metric): Row => ({
    what: metric,
    unit: '',
    subject: 'causeway',
    metric,
    beside: { subject: 'other', metric },
  }))
  return { ...scenario, subjects: { causeway, other: { ...causeway, title: dist, dist } }, rows }
}
