import { randomBytes } from 'node:crypto'
import type { Writable } from 'node:stream'
import type { Encoding, StreamsCounters } from '../shared/shared-streams.ts'
import type { LogLimits } from '../log.ts'
import { type AckMode, SessionStream } from './session-stream.ts'
import type { WindowLimits } from './window.ts'

/** The session at the broker. */
export interface BrokerSession<Message> {
  /** Of its connection; undefined while it is closed. */
  readonly state: string | undefined
  /** Resolves once the broker delivers; with its error where it will not. `present`: the broker had it. */
  open(): Promise<{ present: boolean; expiryS: number | undefined }>
  /** The broker need not send it again. */
  done(message: Message): void
  /** The broker is to send it again, over the next connection. */
  abandon(message: Message): void
  /** Connects anew, so that what was abandoned comes. */
  renew(): Promise<void>
  /** The broker keeps it, and what comes for it. */
  close(): Promise<void>
  /** The broker forgets it. Resolves with whether it had it. */
  end(): Promise<boolean>
}

/** What happens to the session at the broker. */
export interface BrokerSessionEvents<Message> {
  message(message: Message): void
  lost(): void
  forgotten(): void
  restored(): void
  refused(error: Error): void
  takenOver(): void
}

export interface SessionSpec<Message> {
  /** Of the session at the broker. */
  id: string
  name: string
  filters: readonly string[]
  retained: boolean
  ack: AckMode
  encoding: Encoding<Message>
}

export interface OpenSessionOptions<Message> {
  spec: SessionSpec<Message>
  /** Names this process's events. */
  epoch: string
  /** The event that the reader got last, of a session that is not open here. */
  continues: string | undefined
  log: LogLimits
  window: WindowLimits
  lingerMs: number
  counters: StreamsCounters
  connect(
    session: Pick<SessionSpec<Message>, 'id' | 'filters' | 'retained'>,
    events: BrokerSessionEvents<Message>,
  ): BrokerSession<Message>
  /** It is open no more: its reader was away for too long, or it was taken over, refused, deleted or shut down. */
  onOver(why: OverReason): void
}

export type OverReason = 'left' | 'taken-over' | 'refused' | 'deleted' | 'shutdown'

const READER_BYTES = 8

/** A durable session open in this process: the broker's, and what its one reader has of it. */
export class OpenSession<Message extends { topic: string; payload: Buffer; qos: number }> {
  readonly spec: SessionSpec<Message>
  readonly stream: SessionStream<Message>
  readonly #options: OpenSessionOptions<Message>
  readonly #broker: BrokerSession<Message>
  #state: { present: boolean; expiryS: number | undefined } | undefined
  #linger: NodeJS.Timeout | undefined
  #hadReader = false
  /** Opened, and neither attached nor released. */
  #joining = 0
  #isAway = false
  /** More came than is kept here: what comes is left to the broker until the reader has room. */
  #spills = false
  #isOver = false

  constructor(options: OpenSessionOptions<Message>) {
    const { spec, log, window, counters } = options
    this.#options = options
    this.spec = spec
    this.stream = new SessionStream<Message>({
      filters: spec.filters,
      encoding: spec.encoding,
      ack: spec.ack,
      // Its events name the reader too: a session's events are for one reader.
      epoch: options.epoch + randomBytes(READER_BYTES).toString('hex'),
      log,
      window,
      counters,
      done: (message) => this.#done(message),
      left: () => this.#left(),
    })
    this.#broker = options.connect(spec, {
      message: (message) => this.#message(message),
      lost: () => {
        this.#isAway = true
        this.stream.tell('status', { broker: 'disconnected' })
      },
      forgotten: () => this.stream.gap('broker-session-lost'),
      restored: () => {
        if (this.#isAway) this.stream.tell('status', { broker: 'connected' })
        this.#isAway = false
      },
      refused: (error) => {
        counters.gap('subscription-refused', 0)
        this.#end('refused', this.stream.lastEvent('gap', { reason: 'subscription-refused', detail: error.message }))
      },
      takenOver: () => this.end('taken-over'),
    })
  }

  get brokerState(): string | undefined {
    return this.#broker.state
  }

  /** A reader has it, or is about to. */
  get isTaken(): boolean {
    return this.#joining > 0 || this.stream.hasReader
  }

  /** Whether a reader that got this event last is the one that this is open for. */
  isOf(lastEventId: string): boolean {
    return this.stream.knows(lastEventId) || lastEventId === this.#options.continues
  }

  /**
   * Resolves once the broker delivers.
   * @throws its error where it will not; the session is over then, unless its reader has been here
   */
  async open(): Promise<void> {
    clearTimeout(this.#linger)
    this.#joining += 1
    if (this.stream.hasReader) return
    try {
      this.#state = await this.#broker.open()
    } catch (error) {
      this.release()
      throw error
    }
  }

  /** Streams to a response whose headers are written, until either side ends it. */
  attach(response: Writable, lastEventId: string | undefined, until?: AbortSignal): void {
    const { id, name, ack } = this.spec
    const { counters, window } = this.#options
    const { present, expiryS } = this.#state!
    const isKnown = lastEventId !== undefined && this.stream.knows(lastEventId)
    if (isKnown && ack === 'explicit') this.stream.acknowledge(lastEventId)
    const missing =
      lastEventId === undefined
        ? undefined
        : !present
          ? 'broker-session-lost'
          : isKnown || ack === 'explicit'
            ? undefined
            : 'unknown-id'
    if (lastEventId !== undefined) counters.resumed(missing ?? 'resumed')
    const about = {
      id,
      name,
      present,
      unacknowledgedLimit: window.messages,
      ack,
      ...(expiryS !== undefined && { expiry: expiryS }),
    }
    this.#joining -= 1
    this.#hadReader = true
    this.#state = { present: true, expiryS }
    this.stream.attach(response, { about, lastEventId: isKnown ? lastEventId : undefined, missing, until })
  }

  /** Nobody joins after all. */
  release(): void {
    this.#joining -= 1
    if (this.stream.hasReader) return
    if (this.#hadReader) this.#left()
    else void this.#end('left')
  }

  /** Ends the stream and says why. */
  end(why: 'taken-over' | 'deleted'): Promise<void> {
    return this.#end(why, this.stream.lastEvent('status', { session: why }))
  }

  /** Ends the stream and asks the reader to come back after so many milliseconds. */
  shutDown(returnMs: number): Promise<void> {
    return this.#end('shutdown', () => this.spec.encoding.format.retry(returnMs))
  }

  /** The broker forgets the session. Resolves with whether it had it. */
  async forget(): Promise<boolean> {
    const existed = await this.#broker.end()
    await this.end('deleted')
    return existed
  }

  #message(message: Message): void {
    if (this.#spills) return this.#leaveToBroker([message])
    this.stream.deliver(message)
    if (!this.stream.isOverfull) return
    this.#spills = true
    this.#leaveToBroker(this.stream.dropWaiting())
  }

  #done(message: Message): void {
    this.#broker.done(message)
    if (!this.#spills || !this.stream.hasRoom) return
    this.#spills = false
    void this.#broker.renew()
  }

  #leaveToBroker(messages: Message[]): void {
    for (const message of messages.reverse()) this.#broker.abandon(message)
    // These no broker sends again.
    const lost = messages.filter(({ qos }) => qos === 0).length
    if (lost > 0) this.stream.gap('overrun', lost)
  }

  #left(): void {
    // Whoever joins next goes on from here.
    if (this.#isOver || this.#joining > 0) return
    this.#spills = false
    this.#isAway = false
    void this.#broker.close()
    for (const message of this.stream.dropWaiting()) this.#broker.abandon(message)
    clearTimeout(this.#linger)
    this.#linger = setTimeout(() => this.#end('left'), this.#options.lingerMs)
  }

  async #end(why: OverReason, text?: () => Buffer): Promise<void> {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#linger)
    this.#options.onOver(why)
    if (why !== 'left') this.stream.end(why, text)
    await this.#broker.close()
  }
}
