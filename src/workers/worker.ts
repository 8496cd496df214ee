import cluster from 'node:cluster'
import type { MetricValues } from '../metrics/merge.ts'
import type { ToParent, ToWorker } from './messages.ts'

/** How the parent tells a worker its number. Not a setting of users, so it is taken out of the environment. */
export const NUMBER_VARIABLE = 'CAUSEWAY_WORKER'

/** After this time, which is far longer than merging takes, the parent does not answer at all. */
const GATHER_TIMEOUT_MS = 5000

/** The end of a worker process that speaks with its parent. */
export class Worker {
  /** From 1. A worker that takes the place of one that ended has its number. */
  readonly number: number
  readonly #gathering = new Map<number, (gathered: MetricValues[][]) => void>()
  #lastId = 0
  #ownMetrics: () => Promise<MetricValues[]> = async () => []

  constructor(number: number) {
    this.number = number
    process.on('message', (message: ToWorker) => void this.#received(message))
  }

  /** @param own reads the metrics of this process */
  provideMetrics(own: () => Promise<MetricValues[]>): void {
    this.#ownMetrics = own
  }

  /**
   * The metrics of every worker, each as `MetricValues`, and the counts of those that have ended.
   * @throws Error if the parent does not answer
   */
  metricsOfAll(): Promise<MetricValues[][]> {
    const id = (this.#lastId += 1)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#gathering.delete(id)
        reject(new Error(`the parent process did not answer within ${GATHER_TIMEOUT_MS} ms`))
      }, GATHER_TIMEOUT_MS)
      this.#gathering.set(id, (gathered) => {
        clearTimeout(timer)
        resolve(gathered)
      })
      this.#send({ about: 'gather-metrics', id })
    })
  }

  async #received(message: ToWorker): Promise<void> {
    if (message.about === 'metrics') {
      this.#send({ about: 'metrics', id: message.id, metrics: await this.#ownMetrics() })
    } else if (message.about === 'gathered-metrics') {
      this.#gathering.get(message.id)?.(message.gathered)
      this.#gathering.delete(message.id)
    }
  }

  #send(message: ToParent): void {
    // The channel is closed when the parent has ended. Node then ends this process.
    if (process.connected) process.send!(message)
  }
}

/** The worker that this process is, or undefined where it is a whole bridge of its own. */
export function asWorker(env: NodeJS.ProcessEnv): Worker | undefined {
  if (!cluster.isWorker) return undefined
  const number = Number(env[NUMBER_VARIABLE])
  delete env[NUMBER_VARIABLE]
  return new Worker(number)
}
