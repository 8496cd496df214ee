import type { AcceptorListening } from '../http/server/accepted-elsewhere.ts'
import type { MetricValues } from '../metrics/merge.ts'

/** What the parent and its workers say to each other, over the channel that Node opens between them. */
export type ToParent =
  /** A worker was asked for the metrics, and wants those of all. */
  | { about: 'gather-metrics'; id: number }
  /** The metrics of one worker, as the parent asked. */
  | { about: 'metrics'; id: number; metrics: MetricValues[] }
  /** A worker is ready to serve at this address. */
  | { about: 'listen'; host: string; port: number }
  /** It has taken the connection that it was handed. */
  | { about: 'taken' }
  /** It has as many connections as it may have, or has no longer. */
  | { about: 'full'; isFull: boolean }
  /** It asks for no more connections. Until the answer it takes those that come. */
  | { about: 'stop-listening' }

export type ToWorker =
  /** The parent asks for the metrics of this worker. */
  | { about: 'metrics'; id: number }
  /** What all workers answered, and the counts of those that have ended. */
  | { about: 'gathered-metrics'; id: number; gathered: MetricValues[][] }
  /** The port is open. */
  | { about: 'listening'; listening: AcceptorListening }
  | { about: 'listen-failed'; error: ListenError }
  /** Comes with a socket. */
  | { about: 'connection' }
  /** The worker gets no more connections. */
  | { about: 'stopped-listening' }

/** What a worker tells its user of an error of the listener. */
export interface ListenError {
  message: string
  code: string | undefined
  port: number
}
