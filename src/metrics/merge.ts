import { AggregatorRegistry, Registry, type RegistryContentType } from 'prom-client'

/** A metric of one process with its values, as prom-client gives it for merging. */
export interface MetricValues {
  name: string
  /** `counter`, `gauge` or `histogram`. */
  type: string
}

/**
 * One registry of the metrics of several processes: counters, histograms and most gauges are added up, others are
 * merged as their `aggregator` says. Exemplars are not kept.
 */
export function merged(
  processes: readonly (readonly MetricValues[])[],
  contentType: RegistryContentType = Registry.PROMETHEUS_CONTENT_TYPE,
): Registry<RegistryContentType> {
  // The types lack the second parameter.
  const aggregate = AggregatorRegistry.aggregate as (...all: unknown[]) => Registry<RegistryContentType>
  if (contentType !== Registry.OPENMETRICS_CONTENT_TYPE) return aggregate(processes, contentType)
  // prom-client appends `_total` to the names of counters in this format.
  const renamed = processes.map((metrics) =>
    metrics.map((metric) =>
      metric.type === 'counter' ? { ...metric, name: metric.name.replace(/_total$/, '') } : metric,
    ),
  )
  return aggregate(renamed, contentType)
}

/** The values of a registry, to be merged with those of others. */
export async function valuesOf(registry: Registry<RegistryContentType>): Promise<MetricValues[]> {
  return (await registry.getMetricsAsJSON()) as unknown as MetricValues[]
}

/**
 * The counts of processes that have ended, which stay in the sums: a counter that falls looks to Prometheus like one
 * that began again, and all of it would count once more.
 */
export async function countsOf(processes: readonly (readonly MetricValues[])[]): Promise<MetricValues[]> {
  const counts = processes.map((metrics) => metrics.filter(({ type }) => type !== 'gauge'))
  return valuesOf(merged(counts))
}
