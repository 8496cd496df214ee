import type { Samples } from './measure.ts'
import type { Row, Scenario } from './scenario.ts'
import { median } from './statistics.ts'

export interface Figures {
  median: number
  min: number
  max: number
}

/** A line of the table with its figures. */
export interface Line {
  what: string
  unit: string
  value: Figures
  beside?: Figures & { title: string }
  /** `median` is the median of the rounds' ratios, not the ratio of the medians. */
  ratio?: Figures
  target?: Row['target']
  met?: boolean
}

/** All subjects of a scenario beside each other. */
export interface SideBySide {
  titles: string[]
  /** A value for each subject; null if it has none, or was not measured. */
  lines: { what: string; unit: string; values: (Figures | null)[] }[]
}

export interface Result {
  scenario: string
  title: string
  node: string
  effort: string
  rounds: number
  at: string
  lines: Line[]
  sideBySide?: SideBySide
  samples: Samples
}

/** The table's lines for a scenario. Lines with a subject that was not measured are left out. */
export function linesOf({ rows, subjects }: Scenario, samples: Samples): Line[] {
  return rows.flatMap((row): Line[] => {
    const values = samples[row.subject]?.map((sample) => sample[row.metric]!)
    const others = row.beside && samples[row.beside.subject]?.map((sample) => sample[row.beside!.metric]!)
    if (values === undefined || (row.beside !== undefined && others === undefined)) return []
    const value = figures(values)
    const ratio = others && figures(values.map((one, round) => one / others[round]!))
    const judged = (ratio ?? value).median
    const { what, unit, target } = row
    return [
      {
        what,
        unit,
        value,
        ...(others && { beside: { ...figures(others), title: subjects[row.beside!.subject]!.title }, ratio: ratio! }),
        ...(target && { target, met: 'atLeast' in target ? judged >= target.atLeast : judged <= target.atMost }),
      },
    ]
  })
}

export function sideBySide({ sideBySide: chosen = [], subjects }: Scenario, samples: Samples): SideBySide {
  return {
    titles: Object.entries(subjects).map(([name, { title }]) =>
      samples[name] === undefined ? `${title} (not measured)` : title,
    ),
    lines: chosen.map(({ what, unit, metric }) => ({
      what,
      unit,
      values: Object.keys(subjects).map((name) => {
        const values = samples[name]?.flatMap((sample) => sample[metric] ?? [])
        return values === undefined || values.length === 0 ? null : figures(values)
      }),
    })),
  }
}

/** The table of all results, and a table for each that has its subjects side by side. */
export function table(results: readonly Result[]): string {
  const head = ['scenario', 'Node', 'measured', 'Causeway', 'beside', 'ratio', 'to reach']
  const rows = results.flatMap(({ title, node, lines }) =>
    lines.map(({ what, unit, value, beside, ratio, target, met }, index) => [
      index === 0 ? title : '',
      index === 0 ? node : '',
      unit === '' ? what : `${what}, ${unit}`,
      spread(value),
      beside === undefined ? '–' : `${beside.title}: ${spread(beside)}`,
      ratio === undefined ? '–' : spread(ratio),
      target === undefined ? '' : targetText(target, ratio !== undefined),
      met === undefined ? '' : met ? 'met' : '**not met**',
    ]),
  )
  const compared = [[...head, ''], [...head, ''].map(() => '---'), ...rows].map(line).join('')
  return [compared, ...results.flatMap(besideEachOther)].join('\n')
}

function besideEachOther({ sideBySide: shown, title, node, rounds }: Result): string[] {
  if (shown === undefined) return []
  const head = [`${node}, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}`, ...shown.titles]
  const rows = shown.lines.map(({ what, unit, values }) => [
    unit === '' ? what : `${what}, ${unit}`,
    ...values.map((value) => (value === null ? '–' : spread(value))),
  ])
  return [`### ${title}\n\n${[head, head.map(() => '---'), ...rows].map(line).join('')}`]
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |\n`
}

function targetText(target: NonNullable<Row['target']>, isRatio: boolean): string {
  const bound = 'atLeast' in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`
  return isRatio ? `${bound} ×` : bound
}

function figures(values: readonly number[]): Figures {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** The median, and in brackets the range when the values differ. */
function spread({ median: middle, min, max }: Figures): string {
  return min === max ? short(middle) : `${short(middle)} (${short(min)}–${short(max)})`
}

function short(value: number): string {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))
}
