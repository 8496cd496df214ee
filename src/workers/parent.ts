import cluster, { type Worker as Child } from 'node:cluster'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { MetricValues } from '../metrics/merge.ts'
import type { ListenError, ToParent, ToWorker } from './messages.ts'
import { SharedListener } from './shared-listener.ts'
import { NUMBER_VARIABLE } from './worker.ts'

export interface ParentOptions {
  /** How many workers run. */
  count: number
  logger: Logger
  /** Longest time from SIGTERM to the end of a worker. Those that still run then are killed. */
  endTimeoutMs: number
  exit(code: number): void
}

/** How long a worker may take to give its metrics. The others' are then merged without them. */
const METRICS_TIMEOUT_MS = 2000
const RESTART_MIN_MS = 100
const RESTART_MAX_MS = 10_000
/** A worker that ran this long did not fail because of its start, and is replaced at once. */
const STEADY_MS = 60_000

interface Place {
  number: number
  child: Child
  startedAt: number
  /** How many in a row ended soon after their start. */
  failures: number
  /** It has listened since its start. */
  isListening: boolean
  /** Its metrics as of the last scrape. */
  lastMetrics: MetricValues[]
}

/**
 * The parent of the workers, which share its port: connections are accepted here and handed out. Each worker is a whole
 * bridge. The parent starts them, replaces those that end, passes signals on, and gathers their metrics; it has no
 * connection to the broker and answers no request.
 */
export class Parent {
  readonly #options: ParentOptions
  readonly #places: Place[] = []
  readonly #listener = new SharedListener()
  /** What workers that have ended had counted, as of the last scrape before. */
  #ended: MetricValues[] = []
  /** Settles once those of each one that has ended are there. */
  #keepingCounts: Promise<void> = Promise.resolve()
  readonly #gathering = new Map<number, { add: (metrics: MetricValues[], from: Child) => void }>()
  #lastId = 0
  #isEnding = false
  #hasStarted = false
  #exitCode = 0

  constructor(options: ParentOptions) {
    this.#options = options
    // Of the admin port.
    cluster.schedulingPolicy = cluster.SCHED_RR
    cluster.on('message', (child, message: ToParent) => this.#received(child, message))
    cluster.on('exit', (child, code, signal) => this.#exited(child, code, signal))
  }

  /** Runs until a signal ends it. */
  start(): void {
    for (let number = 1; number <= this.#options.count; number += 1) {
      this.#places.push({ number, child: this.#fork(number), startedAt: Date.now(), failures: 0, ...newlyStarted() })
    }
  }

  /** Ends all workers, as the signal says, and then this process. A second signal ends them at once. */
  end(signal: NodeJS.Signals): void {
    const isFirst = !this.#isEnding
    this.#isEnding = true
    // Those whose place is empty, and that would be started again.
    for (const place of this.#places.filter(({ child }) => child.isDead())) this.#remove(place)
    for (const { child } of this.#places) child.process.kill('SIGTERM')
    if (!isFirst) return
    this.#options.logger.info(`${signal}: ending ${this.#places.length} workers`)
    void delay(this.#options.endTimeoutMs, undefined, { ref: false }).then(() => {
      this.#options.logger.warn(`workers did not end within ${this.#options.endTimeoutMs} ms, and are killed`)
      for (const { child } of this.#places) child.process.kill('SIGKILL')
    })
    this.#exitIfAllEnded()
  }

  /** Passes SIGHUP on: each worker reads its files again. */
  reload(): void {
    for (const { child } of this.#places) child.process.kill('SIGHUP')
  }

  #fork(number: number): Child {
    return cluster.fork({ [NUMBER_VARIABLE]: number })
  }

  #placeOf(child: Child): Place | undefined {
    return this.#places.find((place) => place.child === child)
  }

  #listening(child: Child): void {
    const place = this.#placeOf(child)
    if (place === undefined || place.isListening) return
    place.isListening = true
    if (this.#hasStarted) {
      this.#options.logger.info(`worker ${place.number} serves again`)
    } else if (this.#places.every(({ isListening }) => isListening)) {
      this.#hasStarted = true
      this.#options.logger.info(`${this.#places.length} workers serve`)
    }
  }

  #exited(child: Child, code: number | null, signal: string | null): void {
    const place = this.#placeOf(child)
    if (place === undefined) return
    this.#keepCounts(place)
    const how = signal === null ? `with exit code ${code}` : `by ${signal}`
    // A start that fails, such as one whose port is taken, would fail again.
    const isFailedStart = !this.#hasStarted && !this.#isEnding
    if (isFailedStart || (this.#isEnding && code !== 0)) this.#exitCode = 1
    if (isFailedStart) {
      this.#options.logger.fatal(`worker ${place.number} ended ${how} before it served; see its last lines`)
      this.#remove(place)
      return this.end('SIGTERM')
    }
    if (this.#isEnding) {
      this.#remove(place)
      return this.#exitIfAllEnded()
    }
    place.failures = Date.now() - place.startedAt < STEADY_MS ? place.failures + 1 : 0
    const waitMs = place.failures === 0 ? 0 : Math.min(RESTART_MAX_MS, RESTART_MIN_MS * 2 ** (place.failures - 1))
    this.#options.logger.error(`worker ${place.number} ended ${how}; another one takes its place in ${waitMs} ms`)
    void this.#replace(place, waitMs)
  }

  async #replace(place: Place, waitMs: number): Promise<void> {
    await delay(waitMs)
    if (this.#isEnding) return
    Object.assign(place, { child: this.#fork(place.number), startedAt: Date.now(), ...newlyStarted() })
  }

  #remove(place: Place): void {
    this.#places.splice(this.#places.indexOf(place), 1)
  }

  #exitIfAllEnded(): void {
    if (this.#places.length === 0) this.#options.exit(this.#exitCode)
  }

  #keepCounts(place: Place): void {
    const { lastMetrics } = place
    if (lastMetrics.length === 0) return
    place.lastMetrics = []
    // One after the other: each adds to what the one before has left.
    this.#keepingCounts = this.#keepingCounts.then(async () => {
      // With it comes prom-client, which a parent needs for nothing else.
      const { countsOf } = await import('../metrics/merge.ts')
      this.#ended = await countsOf([this.#ended, lastMetrics])
    })
  }

  #received(child: Child, message: ToParent): void {
    switch (message.about) {
      case 'gather-metrics':
        return void this.#gather(child, message.id)
      case 'metrics':
        return this.#gathering.get(message.id)?.add(message.metrics, child)
      case 'listen':
        return void this.#listen(child, message)
      case 'taken':
        return this.#listener.taken(child)
      case 'full':
        return this.#listener.setFull(child, message.isFull)
      case 'stop-listening':
        return void this.#listener.remove(child).then(() => send(child, { about: 'stopped-listening' }))
    }
  }

  async #listen(child: Child, at: { host: string; port: number }): Promise<void> {
    try {
      send(child, { about: 'listening', listening: await this.#listener.open(at) })
    } catch (error) {
      const { message, code, port = at.port } = error as ListenError
      return send(child, { about: 'listen-failed', error: { message, code, port } })
    }
    this.#listener.add(child)
    this.#listening(child)
  }

  /** Asks all workers for their metrics, and tells the one that wants them. */
  async #gather(child: Child, wantedId: number): Promise<void> {
    const id = (this.#lastId += 1)
    const places = this.#places.filter((place) => place.child.isConnected())
    let missing = places.length
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, METRICS_TIMEOUT_MS)
      this.#gathering.set(id, {
        add: (metrics, from) => {
          const place = this.#placeOf(from)
          if (place !== undefined) place.lastMetrics = metrics
          missing -= 1
          if (missing > 0) return
          clearTimeout(timer)
          resolve()
        },
      })
      for (const place of places) send(place.child, { about: 'metrics', id })
    })
    this.#gathering.delete(id)
    // Another worker may end meanwhile.
    for (let known: Promise<void> | undefined; known !== this.#keepingCounts;) {
      known = this.#keepingCounts
      await known
    }
    // Of a worker that did not answer, what it said the last time: without its counts the sums would fall.
    const gathered = [this.#ended, ...this.#places.map(({ lastMetrics }) => lastMetrics)]
    send(child, { about: 'gathered-metrics', id: wantedId, gathered })
  }
}

function newlyStarted(): Pick<Place, 'isListening' | 'lastMetrics'> {
  return { isListening: false, lastMetrics: [] }
}

function send(child: Child, message: ToWorker): void {
  if (child.isConnected()) child.send(message, () => {})
}
