import type { Writable } from 'node:stream'
import { OpenSession, type OpenSessionOptions, type SessionSpec } from './open-session.ts'
import { reconnectDelayMs } from '../reconnect-delay.ts'
import type { AckMode } from './session-stream.ts'

export interface SessionsOptions<Message> extends Omit<OpenSessionOptions<Message>, 'spec' | 'continues' | 'onOver'> {
  heartbeatMs: number
  /** How long a reader's socket may stay full. */
  stallMs: number
}

/** A session open here, for whoever asks. */
export interface SessionInfo {
  id: string
  name: string
  filters: string[]
  ack: AckMode
  /** Whether its reader is connected. */
  connected: boolean
  unacknowledged: number
}

/** A place on a stream, to be joined or released. */
export interface SessionHold {
  /**
   * Streams to a response whose headers are written, until either side ends it.
   * @param until as that of a `Reader`
   */
  join(response: Writable, until?: AbortSignal): void
  release(): void
}

export type Acknowledged = { acknowledged: number; unacknowledged: number }

/** Readers whose session another one took, remembered so that they do not take it back. */
const EVICTED_MAX = 10_000

/** The durable sessions open here, one reader each. */
export class Sessions<Message extends { topic: string; payload: Buffer; qos: number }> {
  readonly #options: SessionsOptions<Message>
  readonly #open = new Map<string, OpenSession<Message>>()
  readonly #turns = new Map<string, Promise<unknown>>()
  /** By the epoch of their events. */
  readonly #evicted = new Set<string>()
  readonly #heartbeat: NodeJS.Timeout

  constructor(options: SessionsOptions<Message>) {
    this.#options = options
    this.#heartbeat = setInterval(() => this.#beat(), options.heartbeatMs)
  }

  /** How many are open, those included whose reader is away for less than the linger. */
  get count(): number {
    return this.#open.size
  }

  get list(): SessionInfo[] {
    return [...this.#open.values()].map(infoOf)
  }

  /** States of the sessions' connections to the broker. */
  get states(): string[] {
    return [...this.#open.values()].flatMap(({ brokerState }) => brokerState ?? [])
  }

  has(id: string): boolean {
    return this.#open.has(id)
  }

  find(id: string): SessionInfo | undefined {
    const session = this.#open.get(id)
    return session && infoOf(session)
  }

  /**
   * A reader asks for its session. Without a last event it gets it, whoever had it; with one only where no other reader
   * has it: undefined says that one does. Resolves once the broker delivers; with its error where it will not.
   */
  open(spec: SessionSpec<Message>, lastEventId: string | undefined): Promise<SessionHold | undefined> {
    return this.#inTurn(spec.id, async () => {
      const open = this.#open.get(spec.id)
      const isItsReader = lastEventId !== undefined && open?.isOf(lastEventId) === true
      // An event of nobody known may be of another bridge, which this one's reader was at meanwhile.
      if (lastEventId !== undefined && !isItsReader && (open?.isTaken || this.#wasEvicted(lastEventId))) {
        return undefined
      }
      let session = open
      if (session === undefined || !isItsReader || !isAlike(session.spec, spec)) {
        await session?.end('taken-over')
        session = this.#begin(spec, lastEventId)
      }
      await session.open()
      const opened = session
      return { join: (response, until) => opened.attach(response, lastEventId, until), release: () => opened.release() }
    })
  }

  /** All up to an event is done. Undefined where the event is none of the session's. */
  acknowledge(id: string, eventId: string): Acknowledged | undefined {
    const stream = this.#open.get(id)?.stream
    const acknowledged = stream?.acknowledge(eventId)
    return acknowledged === undefined ? undefined : { acknowledged, unacknowledged: stream!.unacknowledged }
  }

  /** Makes the broker forget a session, open here or not. Resolves with whether it had it. */
  forget(id: string): Promise<boolean> {
    return this.#inTurn(id, () => {
      const nobody = {
        message: () => {},
        lost: () => {},
        forgotten: () => {},
        restored: () => {},
        refused: () => {},
        takenOver: () => {},
      }
      return this.#open.get(id)?.forget() ?? this.#options.connect({ id, filters: [], retained: false }, nobody).end()
    })
  }

  /** Ends every stream; the broker keeps the sessions. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat)
    await Promise.all([...this.#open.values()].map((session) => session.shutDown(reconnectDelayMs())))
  }

  #begin(spec: SessionSpec<Message>, continues: string | undefined): OpenSession<Message> {
    const session: OpenSession<Message> = new OpenSession({
      ...this.#options,
      spec,
      continues,
      onOver: (why) => {
        if (this.#open.get(spec.id) === session) this.#open.delete(spec.id)
        if (why === 'taken-over') this.#evict(session.stream.epoch)
      },
    })
    this.#open.set(spec.id, session)
    return session
  }

  #evict(epoch: string): void {
    this.#evicted.add(epoch)
    if (this.#evicted.size <= EVICTED_MAX) return
    const [oldest] = this.#evicted
    this.#evicted.delete(oldest!)
  }

  #wasEvicted(lastEventId: string): boolean {
    return this.#evicted.has(lastEventId.split('-', 1)[0]!)
  }

  #beat(): void {
    for (const { stream } of this.#open.values()) stream.heartbeat(this.#options.stallMs)
  }

  /** One at a time for each session: opening and closing one takes round trips. */
  #inTurn<Result>(id: string, work: () => Promise<Result>): Promise<Result> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(work, work)
    this.#turns.set(id, turn)
    const over = () => this.#turns.get(id) === turn && this.#turns.delete(id)
    turn.then(over, over)
    return turn
  }
}

function infoOf<Message extends { topic: string; payload: Buffer; qos: number }>({
  spec: { id, name, filters, ack },
  stream,
}: OpenSession<Message>): SessionInfo {
  return { id, name, filters: [...filters], ack, connected: stream.hasReader, unacknowledged: stream.unacknowledged }
}

/** Whether a reader can go on where it was. */
function isAlike<Message>(a: SessionSpec<Message>, b: SessionSpec<Message>): boolean {
  return a.ack === b.ack && a.encoding.name === b.encoding.name
}
