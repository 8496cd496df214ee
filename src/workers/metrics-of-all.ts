import type { Registry, RegistryContentType } from 'prom-client'
import { merged, valuesOf } from '../metrics/merge.ts'
import type { Worker } from './worker.ts'

/**
 * The metrics of every worker as one, in the format of `contentType`. Each worker answers with its own.
 * @param own the registry of this worker, in the text format: in the other one the names of counters lack `_total`
 */
export function metricsOfAll(
  worker: Worker,
  own: Registry,
  contentType: RegistryContentType,
): Pick<Registry<RegistryContentType>, 'contentType' | 'metrics'> {
  worker.provideMetrics(() => valuesOf(own))
  return {
    contentType,
    async metrics() {
      return merged(await worker.metricsOfAll(), contentType).metrics()
    },
  }
}
