import type { MetricValues } from '../metrics/merge.ts'

/** What the parent and its workers say to each other, over the channel that Node opens between them. */
export type ToParent =
  /** A worker was asked for the metrics, and wants those of all. */
  | { about: 'gather-metrics'; id: number }
  /** The metrics of one worker, as the parent asked. */
  | { about: 'metrics'; id: number; metrics: MetricValues[] }

export type ToWorker =
  /** The parent asks for the metrics of this worker. */
  | { about: 'metrics'; id: number }
  /** What all workers answered, and the counts of those that have ended. */
  | { about: 'gathered-metrics'; id: number; gathered: MetricValues[][] }
