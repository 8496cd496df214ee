import type { Row } from './run.ts'

const COLUMNS = [
  'fault',
  'answered 200',
  'never arrived',
  'duplicates QoS 1 / 2',
  'missed without a gap',
  'works again after',
  'callers saw',
  'rules broken, notes',
]

const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`

/** What the table of the faults begins with, in Markdown. */
export const TABLE_HEAD = line(COLUMNS) + line(COLUMNS.map(() => '---'))

export const tableRow = (row: Row): string => line(cells(row))

function cells(row: Row): string[] {
  const recovery = row.recoverySeconds === null ? 'never' : `${row.recoverySeconds} s`
  const broken = row.breaks.map((text) => `**${text}**`)
  return [
    `\`${row.fault}\`${row.issue === undefined ? '' : ` (${row.issue})`}: ${row.what}`,
    `${row.answered200}`,
    row.lostByBroker > 0 ? `${row.neverArrived} (and ${row.lostByBroker} the broker lost)` : `${row.neverArrived}`,
    `${row.duplicatesQos1} / ${row.duplicatesQos2}`,
    missed(row),
    recovery,
    Object.entries(row.saw)
      .sort(([, one], [, other]) => other - one)
      .map(([answer, count]) => `${answer}: ${count}`)
      .join(', '),
    [...broken, ...loadOf(row), ...notesOf(row)].join('; ') || '–',
  ].map((cell) => cell.replaceAll('|', '\\|'))
}

/** A rule in seconds may be broken by a machine that others use. */
const loadOf = ({ breaks, machineLoad }: Row): string[] =>
  breaks.length === 0 ? [] : [`load average of the machine ${machineLoad}`]

function missed({ missed: total, readers }: Row): string {
  const which = Object.entries(readers).filter(([, reader]) => reader.missed > 0)
  return total === 0 ? '0' : `${total} (${which.map(([name, reader]) => `${name} ${reader.missed}`).join(', ')})`
}

function notesOf({ readers, unknown, unknownArrived, notSentArrived, repeatedByBroker, notes }: Row): string[] {
  const gaps = Object.entries(readers).flatMap(([name, reader]) => {
    const reasons = Object.entries(reader.gaps)
    return reasons.length === 0 ? [] : [`${name} ${reasons.map(([reason, count]) => `${reason} ${count}`).join(' ')}`]
  })
  const forgotten = Object.values(readers).reduce((total, reader) => total + reader.forgottenByBroker, 0)
  const unmarked = Object.entries(readers).filter(([, reader]) => reader.unmarked > 0)
  const missed = Object.entries(readers).filter(([, { missedFirst }]) => missedFirst !== undefined)
  return [
    ...notes,
    ...missed.map(([name, { missedFirst }]) => `${name} missed ${missedFirst}`),
    ...(unknown > 0 ? [`of ${unknown} unknown ${unknownArrived} had arrived`] : []),
    ...(notSentArrived > 0 ? [`${notSentArrived} said to be not sent had arrived`] : []),
    ...(repeatedByBroker > 0 ? [`${repeatedByBroker} at QoS 2 repeated by the broker`] : []),
    ...(forgotten > 0 ? [`${forgotten} forgotten by the broker for sessions`] : []),
    ...(unmarked.length > 0
      ? [`again and not marked: ${unmarked.map(([name, reader]) => `${name} ${reader.unmarked}`).join(', ')}`]
      : []),
    ...(gaps.length > 0 ? [`gaps: ${gaps.join(', ')}`] : []),
  ]
}
