import { LRUCache } from 'lru-cache'
import type { OpenedStream } from '../opened-stream.ts'
import { reconnectDelayMs } from '../reconnect-delay.ts'
import {
  type SessionEvents,
  type SessionInfo,
  type SessionMessage,
  type SessionRequest,
  SessionStream,
  type SessionStreamOptions,
} from './session-stream.ts'

/** A replica's view of a session, seen from a reader that had a certain event last. */
export interface SessionView {
  /** The session is open there. */
  isOpen: boolean
  /** A reader is connected there, or about to be. */
  isTaken: boolean
  /** That reader, or the one that left last, is the one that asks. */
  isReader: boolean
  /** Another reader has taken the session over from the one that asks. */
  wasTakenOver: boolean
}

export interface SessionsOptions<Message extends SessionMessage> extends Omit<
  SessionStreamOptions<Message>,
  'request' | 'resumesFrom' | 'wasOpenHere' | 'onEnded'
> {
  heartbeatMs: number
  /** How long a reader's socket may stay full before its stream is closed. */
  stallMs: number
  /** What other replicas know; undefined where they cannot be asked. */
  viewsElsewhere(id: string, lastEventId: string): Promise<SessionView[] | undefined>
}

/** Messages that an acknowledgement was the first for, and those that are unacknowledged after it. */
export type Acknowledged = { acknowledged: number; unacknowledged: number }

/** `session-not-open`: here. `event-unknown`: the stream that the session has here has no such event. */
export type NotAcknowledged = 'session-not-open' | 'event-unknown' | 'acknowledges-itself'

/** Streams that another reader took over, remembered so that their readers do not take them back. */
const TAKEN_OVER_MAX = 10_000

/**
 * Most sessions of one caller, and of all, that are left at the broker and never had a message. Anybody can make
 * sessions by opening and leaving them; the oldest of those are ended.
 */
const NEVER_USED_MAX = 100
const NEVER_USED_MAX_OF_ALL = 10_000

/** The durable sessions that are open here. Each has one reader. */
export class Sessions<Message extends SessionMessage> {
  readonly #options: SessionsOptions<Message>
  /** By id. */
  readonly #open = new Map<string, SessionStream<Message>>()
  /** The last of the tasks of each session, by id. */
  readonly #tasks = new Map<string, Promise<unknown>>()
  /** Epochs of streams that were taken over. Limited by size, as `max` would reserve all of the memory at once. */
  readonly #takenOver = new LRUCache<string, true>({ maxSize: TAKEN_OVER_MAX, sizeCalculation: () => 1 })
  /** Sessions whose last reader was one of this process, by id. */
  readonly #wasOpenHere = new LRUCache<string, true>({ maxSize: TAKEN_OVER_MAX, sizeCalculation: () => 1 })
  /** Sessions that are left at the broker and never had a message, oldest first: the name of the caller by id. */
  readonly #neverUsed = new Map<string, string>()
  readonly #heartbeat: NodeJS.Timeout

  constructor(options: SessionsOptions<Message>) {
    this.#options = options
    this.#heartbeat = setInterval(() => {
      for (const session of this.#open.values()) session.heartbeat(options.stallMs)
    }, options.heartbeatMs)
  }

  /** How many are open, including those whose reader left less than the linger ago. */
  get count(): number {
    return this.#open.size
  }

  get list(): SessionInfo[] {
    return [...this.#open.values()].map(({ info }) => info)
  }

  /** States of the sessions' connections to the broker. */
  get states(): string[] {
    return [...this.#open.values()].flatMap(({ brokerState }) => brokerState ?? [])
  }

  /** Number of sessions open here whose id fulfils a condition. */
  countWhere(condition: (id: string) => boolean): number {
    let count = 0
    for (const id of this.#open.keys()) if (condition(id)) count += 1
    return count
  }

  has(id: string): boolean {
    return this.#open.has(id)
  }

  find(id: string): SessionInfo | undefined {
    return this.#open.get(id)?.info
  }

  /**
   * Opens a session for a reader. Without a last event id it takes the session over from any other reader. With one it
   * gets the session only if no other reader has it: undefined says that one does. Resolves once the broker delivers,
   * and rejects with the broker's error where it does not.
   */
  open(request: SessionRequest<Message>, lastEventId: string | undefined): Promise<OpenedStream | undefined> {
    return this.#oneAtATime(request.id, async () => {
      if (lastEventId !== undefined && (await this.#isAnothers(request.id, lastEventId))) return undefined
      const open = this.#open.get(request.id)
      const isItsReader = lastEventId !== undefined && open?.isReaderOf(lastEventId) === true
      if (open !== undefined && isItsReader && canContinue(open.request, request)) return open.open(lastEventId)
      await open?.replace()
      return this.#begin(request, lastEventId).open(lastEventId)
    })
  }

  /** Acknowledges every message up to an event, or says why it cannot. */
  acknowledge(id: string, eventId: string): Acknowledged | NotAcknowledged {
    const session = this.#open.get(id)
    if (session === undefined) return 'session-not-open'
    if (session.request.ack !== 'explicit') return 'acknowledges-itself'
    const acknowledged = session.acknowledge(eventId)
    return acknowledged === undefined ? 'event-unknown' : { acknowledged, unacknowledged: session.unacknowledged }
  }

  /** What is known here about a session and a reader that had this event last. */
  view(id: string, lastEventId: string): SessionView {
    const open = this.#open.get(id)
    return {
      isOpen: open !== undefined,
      isTaken: open?.isTaken === true,
      isReader: open?.isReaderOf(lastEventId) === true,
      wasTakenOver: this.#takenOver.has(lastEventId.split('-', 1)[0]!),
    }
  }

  /** Makes the broker forget a session, open here or not. Resolves with whether the broker had it. */
  forget(id: string): Promise<boolean> {
    return this.#oneAtATime(
      id,
      () =>
        this.#open.get(id)?.forget() ??
        this.#options.connect({ id, filters: [], retained: false }, IGNORE_EVENTS).end(),
    )
  }

  /** Ends every stream. The broker keeps the sessions. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat)
    await Promise.all([...this.#open.values()].map((session) => session.shutDown(reconnectDelayMs())))
  }

  #begin(request: SessionRequest<Message>, resumesFrom: string | undefined): SessionStream<Message> {
    const session: SessionStream<Message> = new SessionStream({
      ...this.#options,
      request,
      resumesFrom,
      wasOpenHere: this.#wasOpenHere.has(request.id),
      onEnded: (reason) => {
        if (this.#open.get(request.id) === session) this.#open.delete(request.id)
        // Taken over from outside: from now on another process knows what its reader got.
        if (reason === 'unused' || session.isReplacedHere) this.#wasOpenHere.set(request.id, true)
        else this.#wasOpenHere.delete(request.id)
        if (reason === 'taken-over') this.#takenOver.set(session.epoch, true)
        if (reason === 'unused' && !session.isUsed) this.#leaveUnused(request.id, request.share.name)
      },
    })
    this.#open.set(request.id, session)
    this.#neverUsed.delete(request.id)
    return session
  }

  #leaveUnused(id: string, caller: string): void {
    this.#neverUsed.set(id, caller)
    let ofCaller = 0
    for (const name of this.#neverUsed.values()) if (name === caller) ofCaller += 1
    if (ofCaller <= NEVER_USED_MAX && this.#neverUsed.size <= NEVER_USED_MAX_OF_ALL) return
    for (const [oldest, name] of this.#neverUsed) {
      if (ofCaller > NEVER_USED_MAX && name !== caller) continue
      this.#neverUsed.delete(oldest)
      // If the broker is away the session ends there by its expiry.
      this.forget(oldest).catch(() => {})
      return
    }
  }

  /**
   * Whether a reader that comes back would take the session from another one: from one that is connected, here or at
   * another replica, or from one that took it over and may come back.
   */
  async #isAnothers(id: string, lastEventId: string): Promise<boolean> {
    const here = this.view(id, lastEventId)
    if (here.isTaken) return !here.isReader
    if (here.isOpen && here.wasTakenOver && !here.isReader) return true
    const elsewhere = await this.#options.viewsElsewhere(id, lastEventId)
    if (elsewhere === undefined) return here.wasTakenOver
    const wasTakenOver = [here, ...elsewhere].some((view) => view.wasTakenOver)
    return elsewhere.some(({ isOpen, isTaken, isReader }) => !isReader && (isTaken || (isOpen && wasTakenOver)))
  }

  /**
   * Runs the tasks of one session one after the other: opening and closing a session takes round trips to the broker.
   */
  #oneAtATime<Result>(id: string, task: () => Promise<Result>): Promise<Result> {
    const running = (this.#tasks.get(id) ?? Promise.resolve()).then(task, task)
    this.#tasks.set(id, running)
    const forget = () => this.#tasks.get(id) === running && this.#tasks.delete(id)
    running.then(forget, forget)
    return running
  }
}

/** For a session that is only connected to in order to end it. */
const IGNORE_EVENTS: SessionEvents<SessionMessage> = {
  message() {},
  lost() {},
  forgotten() {},
  restored() {},
  queueOverflowed() {},
  refused() {},
  takenOver() {},
}

/** Whether a reader that asks for `b` can continue with a stream that was opened as `a`. */
function canContinue<Message>(a: SessionRequest<Message>, b: SessionRequest<Message>): boolean {
  return a.ack === b.ack && a.encoder.name === b.encoder.name
}
