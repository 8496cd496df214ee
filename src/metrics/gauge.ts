import { Gauge, type Registry } from 'prom-client'
import { bounded, combinations, type Labels, named } from './labels.ts'

/** A part of a gauge: the values of its labels, and the amount that they have. Parts with the same values add up. */
export type Part = readonly [values: readonly string[], amount: number]

export interface GaugeOptions {
  name: string
  help: string
  labels?: Labels
  /** How the values of several workers become one. */
  ofWorkers?: 'sum' | 'min' | 'max'
}

/**
 * A gauge that is asked on each scrape. Each combination of label values has a row in every scrape, with 0 where there
 * is nothing: a comparison with 0 in an alert would never hold for a row that is missing.
 */
export function gauge(
  registers: readonly Registry[],
  { name, help, labels = {}, ofWorkers = 'sum' }: GaugeOptions,
  read: () => readonly Part[] | Promise<readonly Part[]>,
): void {
  const names = Object.keys(labels)
  for (const register of registers) {
    new Gauge({
      name,
      help,
      labelNames: names,
      aggregator: ofWorkers,
      registers: [register],
      async collect() {
        const parts = await read()
        this.reset()
        for (const values of combinations(labels)) this.set(named(names, values), 0)
        for (const [values, amount] of parts) this.inc(named(names, bounded(labels, values)), amount)
      },
    })
  }
}
