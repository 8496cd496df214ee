/** What memory is held for. These are the values of the label `purpose` of `causeway_held_bytes`. */
export const PURPOSES = [
  'bodies',
  'publishes',
  'requests',
  'logs',
  'streams',
  'filters',
  'joins',
  'retained',
  'sessions',
  'idempotency',
  'answers',
  'credentials',
  'push',
  'broker',
] as const

export type Purpose = (typeof PURPOSES)[number]

/**
 * Gives back memory that is only kept in case somebody comes back for it, such as the log of a stream without readers.
 *
 * @param bytes how much is needed
 * @param share whose memory it has to be; undefined for anybody's
 */
export type Reclaim = (bytes: number, share: MemoryShare | undefined) => void

export interface MemoryAccountOptions {
  /** Bytes that may be held in all. */
  totalBytes: number
  /** Called for each time that memory was refused. */
  onRefused?: (purpose: Purpose) => void
}

/**
 * The one account of everything that this process holds on somebody's behalf. Whoever keeps bytes for a caller takes
 * them from here first, and gives them back. It counts what callers can make grow, not what the program itself needs.
 *
 * A caller may hold no more than is left free for everybody else: one caller alone gets half of the total, two a third
 * each, n callers 1/(n+1) each. So there is always room for one more caller, however greedy the others are.
 */
export class MemoryAccount {
  readonly totalBytes: number
  readonly #onRefused: (purpose: Purpose) => void
  readonly #byPurpose = Object.fromEntries(PURPOSES.map((purpose) => [purpose, 0])) as Record<Purpose, number>
  /** By the name of the caller; without those who hold nothing. */
  readonly #byCaller = new Map<string, CallerBytes>()
  readonly #reclaimers = new Set<Reclaim>()
  #heldBytes = 0
  #isReclaiming = false

  constructor({ totalBytes, onRefused = () => {} }: MemoryAccountOptions) {
    this.totalBytes = totalBytes
    this.#onRefused = onRefused
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Bytes held, by purpose. A live view: read it, do not keep it. */
  get byPurpose(): Readonly<Record<Purpose, number>> {
    return this.#byPurpose
  }

  /** How many callers hold something. */
  get callerCount(): number {
    return this.#byCaller.size
  }

  /**
   * The part of a caller. A light handle: all handles of one name share what they hold.
   *
   * @param name the name of its identity, or its address where nobody says who they are
   */
  shareOf(name: string): MemoryShare {
    return new MemoryShare(name, this)
  }

  /**
   * Called when memory is short, in the order in which they were added, until there is enough.
   *
   * @returns ends that
   */
  onShortage(reclaim: Reclaim): () => void {
    this.#reclaimers.add(reclaim)
    return () => this.#reclaimers.delete(reclaim)
  }

  /** For `MemoryShare` alone. Undefined where the caller holds nothing. */
  heldBy(name: string): CallerBytes | undefined {
    return this.#byCaller.get(name)
  }

  /** For `MemoryShare` alone. Whether a caller may hold so many bytes more. */
  mayHold({ heldBytes }: MemoryShare, bytes: number): boolean {
    return heldBytes + bytes <= this.totalBytes - this.#heldBytes - bytes
  }

  /** For `MemoryShare` alone. Frees what is kept only for those who may come back: the caller's own, then anybody's. */
  reclaim(share: MemoryShare, bytes: number): void {
    // What is reclaimed gives bytes back, which must not start over.
    if (this.#isReclaiming) return
    this.#isReclaiming = true
    try {
      for (const whose of [share, undefined]) {
        for (const reclaim of this.#reclaimers) {
          if (this.mayHold(share, bytes)) return
          reclaim(bytes, whose)
        }
      }
    } finally {
      this.#isReclaiming = false
    }
  }

  /** For `MemoryShare` alone. */
  changed(name: string, caller: CallerBytes, purpose: Purpose, bytes: number): void {
    this.#heldBytes += bytes
    this.#byPurpose[purpose] += bytes
    if (caller.bytes === 0) this.#byCaller.set(name, caller)
    caller.bytes += bytes
    if (caller.bytes === 0) this.#byCaller.delete(name)
  }

  /** For `MemoryShare` alone. */
  refused(purpose: Purpose): void {
    this.#onRefused(purpose)
  }
}

/** How much a caller holds: one object for all handles of its name, as long as it holds something. */
interface CallerBytes {
  bytes: number
}

/** What one caller holds. Made by `MemoryAccount.shareOf`. */
export class MemoryShare {
  readonly name: string
  readonly #account: MemoryAccount
  /** The latest that was found, so that it is not looked up with each change. */
  #caller: CallerBytes = { bytes: 0 }

  constructor(name: string, account: MemoryAccount) {
    this.name = name
    this.#account = account
  }

  get heldBytes(): number {
    return this.#found().bytes
  }

  /** Whether `take` would succeed now, without making room. */
  mayTake(bytes: number): boolean {
    return this.#account.mayHold(this, bytes)
  }

  /**
   * Takes bytes, to be given back with `give`.
   *
   * @returns false where there is no room for them, and nothing was taken
   */
  take(purpose: Purpose, bytes: number): boolean {
    if (!this.#account.mayHold(this, bytes)) {
      this.#account.reclaim(this, bytes)
      if (!this.#account.mayHold(this, bytes)) {
        this.#account.refused(purpose)
        return false
      }
    }
    this.takeAnyway(purpose, bytes)
    return true
  }

  /** Takes bytes whatever the limits: for what is there already and cannot be refused. To be freed soon. */
  takeAnyway(purpose: Purpose, bytes: number): void {
    this.#account.changed(this.name, this.#found(), purpose, bytes)
  }

  give(purpose: Purpose, bytes: number): void {
    this.#account.changed(this.name, this.#found(), purpose, -bytes)
  }

  #found(): CallerBytes {
    // Where it holds nothing any more, another handle may have begun a new one.
    if (this.#caller.bytes === 0) this.#caller = this.#account.heldBy(this.name) ?? this.#caller
    return this.#caller
  }

  /** Something that grows and shrinks and is given back as a whole. */
  hold(purpose: Purpose): Held {
    return new Held(this, purpose)
  }
}

/** The bytes of one thing that is held: a body, a snapshot, a log. Whoever makes it calls `release` once it is gone. */
export class Held {
  readonly share: MemoryShare
  readonly #purpose: Purpose
  #bytes = 0
  #isReleased = false

  constructor(share: MemoryShare, purpose: Purpose) {
    this.share = share
    this.#purpose = purpose
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether the caller holds more than it may: something grew whatever the limits, or others came. */
  get isOverShare(): boolean {
    return !this.share.mayTake(0)
  }

  /** @returns false where there is no room for so many bytes more, and nothing has changed */
  grow(bytes: number): boolean {
    if (this.#isReleased || !this.share.take(this.#purpose, bytes)) return false
    this.#bytes += bytes
    return true
  }

  /** Grows whatever the limits, as `MemoryShare.takeAnyway`. */
  growAnyway(bytes: number): void {
    if (this.#isReleased) return
    this.share.takeAnyway(this.#purpose, bytes)
    this.#bytes += bytes
  }

  shrink(bytes: number): void {
    if (this.#isReleased) return
    this.share.give(this.#purpose, bytes)
    this.#bytes -= bytes
  }

  /** Gives everything back, for good. May be called again. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    if (this.#bytes > 0) this.share.give(this.#purpose, this.#bytes)
    this.#bytes = 0
  }
}
