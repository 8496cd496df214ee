import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import { filtersOverlap } from '../topic.ts'
import { Snapshot, type SnapshotUse } from './snapshot.ts'

export interface SnapshotQueueOptions {
  /** Most snapshots that are read at the same time. */
  runningMax: () => number
  /** How long a snapshot may wait for its turn. */
  waitMs: number
  /** Reads a snapshot. Resolves, without an error in any case, once the broker sends nothing more for it. */
  run(snapshot: Snapshot): Promise<void>
}

interface Waiting {
  snapshot: Snapshot
  timer: NodeJS.Timeout
}

/**
 * Snapshots that wait for their turn. Callers take turns, however many snapshots each of them waits for, and no two
 * snapshots run whose filters overlap.
 */
export class SnapshotQueue {
  readonly #options: SnapshotQueueOptions
  /** By filter, the snapshots that have not begun. */
  readonly #waiting = new Map<string, Waiting>()
  /** The filters each caller waits for, in order; the caller whose turn it is next comes first. */
  readonly #byCaller = new Map<string, string[]>()
  readonly #running = new Set<Snapshot>()
  #isScheduled = false

  constructor(options: SnapshotQueueOptions) {
    this.#options = options
  }

  /** A read of a filter. It shares the snapshot with all others that wait for the same filter. */
  add(filter: string, share: MemoryShare): SnapshotUse {
    // A read must see what was published before it, so it cannot join a snapshot that has begun.
    const { snapshot } = this.#waiting.get(filter) ?? this.#create(filter, share.name)
    this.#schedule()
    return snapshot.use(share)
  }

  #create(filter: string, caller: string): Waiting {
    const { waitMs } = this.#options
    const snapshot = new Snapshot(filter)
    const timer = setTimeout(() => {
      this.#waiting.delete(filter)
      snapshot.fail(
        new CausewayError('overloaded', `Other reads of retained messages were in front of ${filter} for too long`, {
          retryAfter: 1,
        }),
      )
    }, waitMs)
    const waiting = { snapshot, timer }
    this.#waiting.set(filter, waiting)
    const filters = this.#byCaller.get(caller)
    if (filters === undefined) this.#byCaller.set(caller, [filter])
    else filters.push(filter)
    return waiting
  }

  /** Starts what may start at the end of this turn, so that all reads of one turn can share. */
  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    queueMicrotask(() => {
      this.#isScheduled = false
      this.#start()
    })
  }

  #start(): void {
    /** Filters whose turn it is and that have to wait. What overlaps with them waits as well, or they never got it. */
    const held: string[] = []
    for (let seen = 0; seen < this.#byCaller.size; seen += 1) {
      if (this.#running.size >= this.#options.runningMax()) return
      const [caller, filters] = this.#byCaller.entries().next().value!
      this.#byCaller.delete(caller)
      while (filters.length > 0 && !this.#isWanted(filters[0]!)) filters.shift()
      const [filter] = filters
      if (filter === undefined) {
        seen -= 1
        continue
      }
      const isHeld =
        held.some((other) => filtersOverlap(other, filter)) ||
        [...this.#running].some((other) => filtersOverlap(other.filter, filter))
      if (isHeld) {
        held.push(filter)
        // Keeps its place among the callers.
        this.#byCaller.set(caller, filters)
        continue
      }
      filters.shift()
      if (filters.length > 0) this.#byCaller.set(caller, filters)
      this.#begin(filter)
      seen = -1
    }
  }

  /** Whether somebody still waits for it. Drops it otherwise. */
  #isWanted(filter: string): boolean {
    const waiting = this.#waiting.get(filter)
    if (waiting === undefined) return false
    if (waiting.snapshot.isUsed) return true
    clearTimeout(waiting.timer)
    this.#waiting.delete(filter)
    return false
  }

  #begin(filter: string): void {
    const { snapshot, timer } = this.#waiting.get(filter)!
    this.#waiting.delete(filter)
    clearTimeout(timer)
    this.#running.add(snapshot)
    void this.#options.run(snapshot).finally(() => {
      this.#running.delete(snapshot)
      this.#schedule()
    })
  }
}
