/**
 * The labels of a metric, each with all values that it may have; with none where they are known only at run time, such
 * as the names of push targets. A metric without labels has none.
 */
export type Labels = Readonly<Record<string, readonly string[]>>

/** Stands for a value that is not among those of its label, so that nothing a client sends can make new series. */
const OTHER = 'other'

/** Every combination of the labels' values, in the order of the labels; one empty combination where there are none. */
export function combinations(labels: Labels): string[][] {
  return Object.values(labels).reduce<string[][]>(
    (all, values) => all.flatMap((before) => values.map((value) => [...before, value])),
    [[]],
  )
}

/** The values, with `other` for each that its label does not know. */
export function bounded(labels: Labels, values: readonly string[]): string[] {
  return Object.values(labels).map((known, index) => {
    const value = values[index]!
    return known.length === 0 || known.includes(value) ? value : OTHER
  })
}

/** `{ name: value }`, as prom-client takes labels. */
export function named(names: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name, index) => [name, values[index]!]))
}
