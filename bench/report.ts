import type { Samples } from './measure.ts'
import type { Row, Scenario } from './scenario.ts'
import { median } from './statistics.ts'

export interface Figures {
  median: number
  min: number
  max: number
}

/** A line of the table, measured. */
export interface Line {
  what: string
  unit: string
  value: Figures
  beside?: Figures & { title: string }
  /** Median of the ratios of each round. */
  ratio?: Figures
  target?: Row['target']
  met?: boolean
}

export interface Result {
  scenario: string
  title: string
  node: string
  effort: string
  rounds: number
  at: string
  lines: Line[]
  samples: Samples
}

/** The lines whose subjects were measured. */
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

export function table(results: readonly Result[]): string {
  const head =
    '| scenario | Node | measured | Causeway | beside | ratio | to reach | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n'
  const rows = results.flatMap(({ title, node, lines }) =>
    lines.map(({ what, unit, value, beside, ratio, target, met }, index) => {
      const besideText = beside === undefined ? '–' : `${beside.title}: ${spread(beside)}`
      const targetText =
        target === undefined ? '' : `${'atLeast' in target ? '≥' : '≤'} ${Object.values(target)[0]}${ratio ? ' ×' : ''}`
      const verdict = met === undefined ? '' : met ? 'met' : '**not met**'
      return `| ${index === 0 ? title : ''} | ${index === 0 ? node : ''} | ${what}${unit === '' ? '' : `, ${unit}`} | ${spread(value)} | ${besideText} | ${ratio === undefined ? '–' : spread(ratio)} | ${targetText} | ${verdict} |\n`
    }),
  )
  return head + rows.join('')
}

function figures(values: readonly number[]): Figures {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** Median, and the range where there is one. */
function spread({ median: middle, min, max }: Figures): string {
  return min === max ? short(middle) : `${short(middle)} (${short(min)}–${short(max)})`
}

function short(value: number): string {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))
}
