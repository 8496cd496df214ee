import cluster from 'node:cluster'
import type { Socket } from 'node:net'
import type { Acceptor, AcceptorListening } from '../http/server/accepted-elsewhere.ts'
import type { MetricValues } from '../metrics/merge.ts'
import type { ToParent, ToWorker } from './messages.ts'

/** How the parent tells a worker its number. Not a setting of users, so it is taken out of the environment. */
export const NUMBER_VARIABLE = 'CAUSEWAY_WORKER'

/** After this time, which is far longer than merging takes, the parent does not answer at all. */
const GATHER_TIMEOUT_MS = 5000

/** The end of a worker process that speaks with its parent. */
export class Worker implements Acceptor {
  /** From 1. A worker that takes the place of one that ended has its number. */
  readonly number: number
  readonly #gathering = new Map<number, (gathered: MetricValues[][]) => void>()
  #lastId = 0
  #ownMetrics: () => Promise<MetricValues[]> = async () => []
  #take: (socket: Socket) => void = (socket) => socket.destroy()
  #listening: { resolve(listening: AcceptorListening): void; reject(error: Error): void } | undefined
  #onStopped = () => {}

  constructor(number: number) {
    this.number = number
    process.on('message', (message: ToWorker, socket?: unknown) => this.#received(message, socket as Socket))
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

  /**
   * Says that this worker is ready. The parent opens the port, if no other worker is ready yet, and hands over
   * connections from then on.
   * @throws the listener's errors, such as EADDRINUSE
   */
  listen({ host, port }: { host: string; port: number }, take: (socket: Socket) => void): Promise<AcceptorListening> {
    this.#take = take
    return new Promise((resolve, reject) => {
      this.#listening = { resolve, reject }
      this.#send({ about: 'listen', host, port })
    })
  }

  /** The parent hands over nothing to a worker that is full, as long as another one is not. */
  setFull(isFull: boolean): void {
    this.#send({ about: 'full', isFull })
  }

  /**
   * Resolves when the parent hands over no more connections. If this is the last worker, it has then closed the port,
   * and handed over everything that had come.
   */
  stopListening(): Promise<void> {
    return new Promise((resolve) => {
      this.#onStopped = resolve
      this.#send({ about: 'stop-listening' })
    })
  }

  #received(message: ToWorker, socket: Socket | undefined): void {
    switch (message.about) {
      case 'metrics':
        return void this.#ownMetrics().then((metrics) => this.#send({ about: 'metrics', id: message.id, metrics }))
      case 'gathered-metrics':
        this.#gathering.get(message.id)?.(message.gathered)
        this.#gathering.delete(message.id)
        return
      case 'listening':
        return this.#listening!.resolve(message.listening)
      case 'listen-failed':
        return this.#listening!.reject(Object.assign(new Error(message.error.message), message.error))
      case 'connection':
        if (socket !== undefined) this.#take(socket)
        // In the same turn: until the parent knows, it would hand the connection to another worker if this one ended.
        this.#send({ about: 'taken' })
        return
      case 'stopped-listening':
        return this.#onStopped()
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
