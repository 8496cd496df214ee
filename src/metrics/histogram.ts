import type { Histogram, Registry } from 'prom-client'
import { combinations, type Labels, named } from './labels.ts'

/** One observation of a bucket that belongs to a trace, as OpenMetrics writes it. */
interface Exemplar {
  labelSet: { trace_id: string }
  value: number
  /** Seconds since 1970. */
  timestamp: number
}

/** The observations with one set of label values. */
export class HistogramSeries {
  readonly labels: Readonly<Record<string, string>>
  /** Number of observations in each bucket, not cumulated. The last bucket has no upper bound. */
  readonly counts: number[]
  /** The last observation of each bucket that belonged to a trace. */
  readonly exemplars: (Exemplar | undefined)[] = []
  sum = 0
  readonly #bounds: readonly number[]

  constructor(labels: Readonly<Record<string, string>>, bounds: readonly number[]) {
    this.labels = labels
    this.#bounds = bounds
    this.counts = [...bounds, Infinity].map(() => 0)
  }

  /** @param traceId of the sampled trace that the observation belongs to */
  observe(seconds: number, traceId?: string): void {
    let bucket = 0
    while (seconds > this.#bounds[bucket]!) bucket += 1
    this.counts[bucket]! += 1
    this.sum += seconds
    if (traceId === undefined) return
    this.exemplars[bucket] = { labelSet: { trace_id: traceId }, value: seconds, timestamp: Date.now() / 1000 }
  }
}

/**
 * A histogram of seconds that keeps plain numbers, for the same reasons as `PlainCounter`, and begins at 0 as well.
 * prom-client's Histogram cannot be filled with counts, so this class implements what a registry calls.
 */
export class PlainHistogram {
  readonly #bounds: readonly number[]
  readonly #labelNames: string[]
  readonly #series = new Map<string, HistogramSeries>()

  constructor(registers: readonly Registry[], name: string, help: string, bounds: readonly number[], labels: Labels) {
    this.#bounds = bounds
    this.#labelNames = Object.keys(labels)
    const get = async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: [...this.#series.values()].flatMap((series) => this.#valuesOf(name, series)),
    })
    for (const register of registers) {
      register.registerMetric({ name, labelNames: this.#labelNames, get } as unknown as Histogram)
    }
    for (const values of combinations(labels)) this.begin(...values)
  }

  /** As `PlainCounter.begin`: the series with these values, which begins now unless there is one. */
  begin(...values: string[]): HistogramSeries {
    const key = values.join()
    let found = this.#series.get(key)
    if (found === undefined) {
      this.#series.set(key, (found = new HistogramSeries(named(this.#labelNames, values), this.#bounds)))
    }
    return found
  }

  #valuesOf(name: string, { labels, counts, exemplars, sum }: HistogramSeries): object[] {
    let total = 0
    const buckets = counts.map((count, bucket) => ({
      labels: { le: this.#bounds[bucket] ?? '+Inf', ...labels },
      value: (total += count),
      metricName: `${name}_bucket`,
      exemplar: exemplars[bucket],
    }))
    return [
      ...buckets,
      { labels, value: sum, metricName: `${name}_sum` },
      { labels, value: total, metricName: `${name}_count` },
    ]
  }
}
