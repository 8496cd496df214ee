import { Counter, type Registry } from 'prom-client'
import { bounded, combinations, type Labels, named } from './labels.ts'

/** The count for one set of label values. */
export class CounterSeries {
  readonly labels: Readonly<Record<string, string>>
  value = 0

  constructor(labels: Record<string, string>) {
    this.labels = labels
  }
}

/**
 * A counter that keeps plain numbers and gives them to prom-client on each scrape. A labelled `inc` of prom-client
 * costs twenty times as much as adding to a number.
 *
 * Each combination of label values has its series from the beginning, at 0. `increase()` and `rate()` of Prometheus do
 * not see the first event of a series that appears with it.
 */
export class PlainCounter {
  readonly #labels: Labels
  readonly #series = new Map<string, CounterSeries>()

  constructor(registers: readonly Registry[], name: string, help: string, labels: Labels) {
    this.#labels = labels
    const series = this.#series
    // One counter for each registry: when prom-client writes OpenMetrics, it removes `_total` from the counter's name
    // for ever, and the text format would lack it.
    for (const register of registers) {
      new Counter({
        name,
        help,
        labelNames: Object.keys(labels),
        registers: [register],
        collect() {
          this.reset()
          for (const { labels: ofSeries, value } of series.values()) this.inc(ofSeries, value)
        },
      })
    }
    for (const values of combinations(labels)) this.begin(...values)
  }

  /**
   * The series with these label values; a value that its label does not know is counted as `other`. Code that counts
   * every message should call this once and keep the result.
   */
  series(...values: string[]): CounterSeries {
    return this.#series.get(values.join()) ?? this.begin(...bounded(this.#labels, values))
  }

  /** Begins a series at 0 whose values are known only now, such as those of a route. There must be few of them. */
  begin(...values: string[]): CounterSeries {
    const key = values.join()
    let found = this.#series.get(key)
    if (found === undefined) {
      this.#series.set(key, (found = new CounterSeries(named(Object.keys(this.#labels), values))))
    }
    return found
  }
}
