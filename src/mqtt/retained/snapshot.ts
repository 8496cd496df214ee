import type { MemoryShare } from '../../memory/account.ts'
import type { CausewayError } from '../../errors.ts'
import type { Message } from '../message.ts'

/** Where a read ended among all that the broker sends: see `Subscriber.passed`. */
export interface MarkerPoint {
  source: string
  number: number
}

/** One read of a snapshot. */
export interface SnapshotUse {
  /** Resolves with the whole snapshot. */
  done: Promise<Snapshot>
  /** The messages are not needed any more. May be called again. */
  release(): void
}

/** The retained messages of one filter at one moment, for all who wait for them. */
export class Snapshot {
  readonly filter: string
  /** By topic. */
  readonly messages = new Map<string, Message>()
  /** How many messages arrived, repeated ones included. */
  arrived = 0
  /** Bytes of payloads and properties. */
  bytes = 0
  /** Sent once all messages had arrived. */
  marker: MarkerPoint | undefined
  /** Those who wait have their answer. */
  isOver = false
  readonly #users = new Map<object, MemoryShare>()
  /** Bytes that each share has taken. */
  readonly #taken = new Map<MemoryShare, number>()
  #resolve!: (snapshot: Snapshot) => void
  #reject!: (error: CausewayError) => void
  readonly #done = new Promise<Snapshot>((resolve, reject) => {
    this.#resolve = resolve
    this.#reject = reject
  })

  constructor(filter: string) {
    this.filter = filter
    this.#done.catch(() => {})
  }

  /** Whether anybody waits for it or has it. */
  get isUsed(): boolean {
    return this.#users.size > 0
  }

  use(share: MemoryShare): SnapshotUse {
    const user = {}
    this.#users.set(user, share)
    return {
      done: this.#done,
      release: () => {
        if (!this.#users.delete(user)) return
        if (this.#users.size === 0) this.#free()
        else this.#handOn(share)
      },
    }
  }

  /**
   * Takes memory from any of those who wait, so that one of them that is at its limit costs the others nothing.
   * @returns false where none has room
   */
  pay(bytes: number): boolean {
    for (const share of this.#users.values()) {
      if (bytes > 0 && !share.mayTake(bytes)) continue
      this.#take(share, bytes)
      return true
    }
    // Asks for memory that is kept only for those who may come back to be freed, and counts the refusal.
    const [share] = this.#users.values()
    if (share === undefined || !share.take('retained', bytes)) return false
    this.#taken.set(share, (this.#taken.get(share) ?? 0) + bytes)
    return true
  }

  succeed(): void {
    this.isOver = true
    this.#resolve(this)
  }

  /** Does nothing once those who wait have their answer. */
  fail(error: CausewayError): void {
    if (this.isOver) return
    this.isOver = true
    this.#free()
    this.#reject(error)
  }

  /** One of several no longer needs the messages: what it has paid for them, another one pays now. */
  #handOn(share: MemoryShare): void {
    const bytes = this.#taken.get(share)
    const [other] = this.#users.values()
    if (bytes === undefined || other === undefined) return
    this.#taken.delete(share)
    share.give('retained', bytes)
    this.#take(other, bytes)
  }

  #take(share: MemoryShare, bytes: number): void {
    share.takeAnyway('retained', bytes)
    this.#taken.set(share, (this.#taken.get(share) ?? 0) + bytes)
  }

  #free(): void {
    this.messages.clear()
    for (const [share, bytes] of this.#taken) share.give('retained', bytes)
    this.#taken.clear()
  }
}
