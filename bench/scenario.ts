import type { Stage } from './stage.ts'

/**
 * `check` only shows that a scenario works, with a few connections and messages. `quick` takes seconds, `full` minutes.
 */
export type Effort = 'check' | 'quick' | 'full'

/** The figures of one measurement, by name. */
export type Sample = Record<string, number>

export interface Subject {
  /** Its name in the table. */
  title: string
  /** Whether the programs that it needs are installed, and run on this Node. */
  isAvailable?: boolean | ((node: string) => boolean)
  /** The folder of another build than dist/. */
  dist?: string
  measure(stage: Stage, effort: Effort): Promise<Sample>
}

/** A line of the table. */
export interface Row {
  what: string
  unit: string
  subject: string
  metric: string
  /** The figure that it is compared with. */
  beside?: { subject: string; metric: string }
  /** A bound for the ratio if there is `beside`, otherwise for the value. */
  target?: { atLeast: number } | { atMost: number }
}

/** A line of a table that has a column for each subject. A subject whose samples lack the metric has a dash. */
export interface Figure {
  what: string
  unit: string
  metric: string
}

/** A comparison. Its subjects are measured in turn, in several rounds, each time in new processes. */
export interface Scenario {
  name: string
  title: string
  subjects: Record<string, Subject>
  rows: Row[]
  /** The lines of a table of its own, where all subjects are to be seen side by side. */
  sideBySide?: Figure[]
  /** Takes many minutes: measured only when it is named on the command line, by default in one round. */
  long?: boolean
}

/** The same scenario with two builds of the bridge, to measure what a change does. */
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
