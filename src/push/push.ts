import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { CausewayError } from '../errors.ts'
import type { Held, MemoryShare } from '../memory/account.ts'
import type { ConnectionState } from '../mqtt/connection.ts'
import { type Message, sizeOf } from '../mqtt/message.ts'
import { Intake } from '../stream/sessions/intake.ts'
import type { BrokerSession, SessionEvents } from '../stream/sessions/session-stream.ts'
import type { LoggedEvent, WindowLimits } from '../stream/sessions/window.ts'
import type { DeadLetter } from './dead-letters.ts'
import { Delivery, type Failure, type Item, type PushOutcome } from './delivery.ts'
import { Endpoint } from './endpoint.ts'
import { FormerFilters } from './former-filters.ts'
import type { PushInfo, PushState } from './info.ts'
import { retryDelayMs } from './retry.ts'
import { publicUrl, type Target } from './target.ts'

/** The session at the broker. */
export interface PushSession extends BrokerSession<Message> {
  readonly state: ConnectionState | undefined
  /** Ends subscriptions that an earlier version of the target had. */
  unsubscribe(filters: readonly string[]): Promise<void>
}

export interface PushSessionEvents extends SessionEvents<Message> {
  /** A message came, and was acknowledged, by a subscription that the session has from an earlier push file. */
  stray(message: Message): void
}

/** Which of several bridges has the session of a target. */
export interface Seat {
  /**
   * Asks for the session. `granted` is called once nobody else has it, `taken` when another bridge has. To be called
   * again each time that the session was lost.
   */
  ask(): void
  /** Another client has taken the session: waits until that one is gone. */
  evicted(): void
  /** Whether other bridges answer `ask`. Where they cannot, the session is kept over reconnects without asking. */
  readonly isShared: boolean
  /** Gives the session to whoever asks next. To be called when the session is closed. */
  leave(): void
}

export interface PushLog {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

export interface PushOptions {
  target: Target
  /** Filters that the session at the broker may still have from before a change of the target. */
  formerTopics: readonly string[]
  ca: string | undefined
  /** The `source` of CloudEvents. */
  source: string
  share: MemoryShare
  window: WindowLimits
  connect(target: Target, events: PushSessionEvents): PushSession
  takeSeat(handlers: { granted(): void; taken(): void }): Seat
  /** Rejects where the broker can never take it, or when the signal is aborted. */
  deadLetter(letter: DeadLetter, signal: AbortSignal): Promise<void>
  log: PushLog
  counters: {
    outcome(outcome: PushOutcome, messages: number, seconds: number | undefined): void
    received(qos: 0 | 1 | 2, bytes: number): void
    redelivered(): void
    /** The broker may have dropped messages. */
    queueOverflowed(): void
    /** No filter of the target matches a message. */
    unmatched(): void
  }
}

/** A message in the window of those that may be unacknowledged. */
type PushedItem = Item & LoggedEvent

/** One session of the target, from when it was granted to this bridge until another one has it. */
interface Work {
  session: PushSession
  delivery: Delivery
  intake: Intake<Message, PushedItem>
  held: Held
  /** Acknowledges what is done, and has no earlier message that is not. */
  acknowledge(): void
}

/**
 * PUBACKs of this time leave in one write. A write for each took a third of the processor time of a delivery. A bridge
 * that is killed meanwhile has these messages delivered again.
 */
const ACKNOWLEDGE_MS = 2
/** When this part of the window is done, they leave at once: nothing takes the place of these messages before. */
const ACKNOWLEDGE_PART = 0.25
const CONNECTION_MS = 60_000
/** How long requests that are cut off may take to end. */
const CUT_MS = 200
const OPEN_RETRY_MAX_MS = 30_000
/** How often it is logged at most that messages were dropped. */
const DROPPED_LOG_MS = 60_000

const FORMER_FILTER =
  'a message came that no filter of a push target matches: its session has one from an earlier push file; the ' +
  'message is dropped, and the filters that may have brought it are unsubscribed'

/** One target: its session at the broker, and the delivery of what the session brings. */
export class Push {
  readonly target: Target
  readonly #options: PushOptions
  readonly #endpoint: Endpoint
  readonly #seat: Seat
  #work: Work | undefined
  #sequence = 0
  /** No other process has the same one. */
  readonly #idPrefix = `msg_${randomUUID()}-`
  #opening: 'connecting' | 'standby' | 'open' | 'refused' = 'connecting'
  #openFailures = 0
  /** The broker had the session while this bridge had it last. */
  #hadSession = false
  #isFailing = false
  #since = new Date()
  #lastState: PushState = 'connecting'
  #lastError: { reason: string; at: string } | undefined
  #dropped = 0
  #droppedLoggedAt = -Infinity
  #formerTopics: readonly string[]
  readonly #closing = new AbortController()

  constructor(options: PushOptions) {
    const { target, ca, formerTopics, takeSeat } = options
    const { url, concurrency: connections, timeoutMs } = target
    this.target = target
    this.#options = options
    this.#formerTopics = formerTopics
    this.#endpoint = new Endpoint({ url, connections, timeoutMs, connectionMs: CONNECTION_MS, ca })
    this.#seat = takeSeat({ granted: () => void this.#open(), taken: () => this.#standBy() })
    this.#seat.ask()
  }

  get info(): PushInfo {
    const { target } = this
    return {
      name: target.name,
      url: publicUrl(target),
      topics: target.topics,
      state: this.state,
      since: this.#since.toISOString(),
      waiting: this.waiting,
      ...(this.#lastError !== undefined && { lastError: this.#lastError }),
    }
  }

  get state(): PushState {
    if (this.#opening !== 'open') return this.#opening
    if (this.#work?.delivery.isPaused) return 'paused'
    return this.#isFailing ? 'retrying' : 'active'
  }

  /** Messages that are held here. */
  get waiting(): number {
    const intake = this.#work?.intake
    return intake === undefined ? 0 : intake.unacknowledged + intake.waiting
  }

  /** Whether this bridge has the session. */
  get isActive(): boolean {
    return this.#opening === 'open'
  }

  /** State of the session's connection; undefined where there is none. */
  get connectionState(): ConnectionState | undefined {
    return this.#work?.session.state
  }

  /** Goes on after the endpoint answered 410, or after another client took the session and nobody can be asked. */
  resume(): void {
    this.#work?.delivery.resume()
    if (this.#opening === 'standby' && !this.#seat.isShared) this.#seat.ask()
    this.#changed()
  }

  /**
   * Begins no more requests, waits for those that are open until the signal is aborted, acknowledges what they have
   * delivered, and disconnects. The broker keeps the session and the other messages.
   */
  async close(signal: AbortSignal): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort()
    const work = this.#work
    if (work !== undefined) {
      const ended = work.delivery.end()
      await Promise.race([ended, aborted(signal)])
      // What is still open is cut off. A dead letter may wait for the broker for longer than there is time.
      await this.#endpoint.close()
      await Promise.race([ended, delay(CUT_MS)])
      work.acknowledge()
      await work.session.close()
      this.#release(work)
    }
    this.#work = undefined
    this.#seat.leave()
    await this.#endpoint.close()
  }

  /** This bridge may have the session. */
  async #open(): Promise<void> {
    if (this.#closing.signal.aborted) return
    const work = (this.#work ??= this.#begin())
    try {
      const { present } = await work.session.open()
      if (this.#hadSession && !present) this.#forgotten()
      this.#hadSession = true
      await this.#endFormerSubscriptions(work.session)
    } catch (error) {
      if (work === this.#work && !this.#closing.signal.aborted) await this.#openFailed(error as CausewayError)
      return
    }
    if (work !== this.#work || this.#closing.signal.aborted) return
    this.#openFailures = 0
    this.#setOpening('open')
  }

  #forgotten(): void {
    const { log } = this.#options
    log.warn({ push: this.target.name }, 'the broker has lost the session of a push target; messages may be missing')
  }

  #queueOverflowed(): void {
    const { counters, log } = this.#options
    counters.queueOverflowed()
    log.warn(
      { push: this.target.name },
      'the broker’s queue for a push target was full or nearly so (CAUSEWAY_BROKER_QUEUE_MAX); messages may be missing',
    )
  }

  async #endFormerSubscriptions(session: PushSession): Promise<void> {
    if (this.#formerTopics.length > 0) await session.unsubscribe(this.#formerTopics)
    this.#formerTopics = []
  }

  async #openFailed(error: CausewayError): Promise<void> {
    const { log } = this.#options
    this.#openFailures += 1
    const isRefused = error.kind !== undefined && !error.kind.retryable
    if (isRefused && this.#opening !== 'refused') {
      log.error({ push: this.target.name, reason: error.message }, 'the broker refuses the session of a push target')
    }
    this.#failed(error.message)
    this.#setOpening(isRefused ? 'refused' : 'connecting')
    // Let another bridge try.
    this.#seat.leave()
    try {
      await delay(retryDelayMs(this.#openFailures, OPEN_RETRY_MAX_MS), undefined, { signal: this.#closing.signal })
    } catch {
      return
    }
    this.#seat.ask()
  }

  #begin(): Work {
    const { target, source, share, window, connect, counters, log } = this.#options
    const { name } = target
    const held = share.hold('push')
    /** When messages came that expire. */
    const receivedAt = new WeakMap<Message, number>()
    const isCurrent = () => this.#work === work
    const formerFilters = new FormerFilters({
      filters: target.topics,
      unsubscribe: (filters) => session.unsubscribe(filters),
    })
    const session = connect(target, {
      message: (message) => {
        counters.received(message.qos, message.payload.length)
        if (message.redelivered) counters.redelivered()
        if (message.properties?.messageExpiryInterval !== undefined) receivedAt.set(message, Date.now())
        intake.message(message)
      },
      stray: ({ topic, qos, payload }) => {
        counters.received(qos, payload.length)
        counters.unmatched()
        if (formerFilters.found(topic)) log.warn({ push: name, topic }, FORMER_FILTER)
      },
      lost: () => isCurrent() && this.#connectionLost(),
      forgotten: () => this.#forgotten(),
      restored: () => isCurrent() && this.#setOpening('open'),
      queueOverflowed: () => this.#queueOverflowed(),
      refused: (error) => isCurrent() && void this.#refusedAgain(error as CausewayError),
      takenOver: () => isCurrent() && this.#evicted(),
    })
    const delivery = new Delivery({
      target,
      source,
      post: (body, headers, answered) => this.#endpoint.post(body, headers, answered),
      held,
      failed: (item, failure, signal) => this.#giveUp(item, failure, signal),
      done: () => {
        done += 1
        if (done >= ACKNOWLEDGE_PART * window.messages) acknowledge()
        else acknowledging ??= setTimeout(acknowledge, ACKNOWLEDGE_MS)
      },
      events: {
        outcome: counters.outcome,
        succeeded: () => isCurrent() && this.#succeeded(),
        failing: (reason) => isCurrent() && this.#failing(reason),
        gone: (reason) => {
          this.#failed(reason)
          log.warn({ push: name, reason }, 'a push endpoint is gone; nothing is sent to it until the next SIGHUP')
          this.#changed()
        },
        fault: (error) => log.error({ push: name, err: error }, 'an unexpected error ended a delivery'),
      },
    })
    const arrived: PushedItem[] = []
    let done = 0
    let acknowledging: NodeJS.Timeout | undefined
    const acknowledge = () => {
      clearTimeout(acknowledging)
      acknowledging = undefined
      done = 0
      intake.acknowledgeWhile(({ isDone }) => isDone)
    }
    const intake: Intake<Message, PushedItem> = new Intake<Message, PushedItem>({
      ...window,
      sizeOf,
      held,
      broker: session,
      deliver: (message) => {
        const sequence = (this.#sequence += 1)
        const item = {
          message,
          sequence,
          position: sequence,
          id: this.#idPrefix + sequence,
          receivedAt: receivedAt.get(message) ?? Date.now(),
          isDone: false,
        }
        arrived.push(item)
        // In this turn the message is not in the window yet.
        if (arrived.length === 1) queueMicrotask(() => arrived.splice(0).forEach((item) => delivery.add(item)))
        return item
      },
      // A session has granted QoS 1, so this comes from publishers at QoS 0.
      lost: (count) =>
        this.#drop(count, 'there was no room for them, and at QoS 0 the broker does not send them again'),
    })
    const work: Work = { session, delivery, intake, held, acknowledge }
    return work
  }

  async #giveUp({ message }: Item, failure: Failure, signal: AbortSignal): Promise<void> {
    const { target, share, deadLetter } = this.#options
    const { name, deadLetterTopic: topic } = target
    this.#failed(failure.reason)
    if (topic === undefined) return this.#drop(1, failure.reason)
    try {
      await deadLetter({ name, topic, message, failure, share }, signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#drop(1, `${failure.reason}, and the broker does not take the dead letter: ${(error as Error).message}`)
    }
  }

  #drop(count: number, reason: string): void {
    this.#dropped += count
    if (performance.now() - this.#droppedLoggedAt < DROPPED_LOG_MS) return
    this.#droppedLoggedAt = performance.now()
    const dropped = this.#dropped
    this.#dropped = 0
    this.#options.log.warn({ push: this.target.name, dropped, reason }, 'messages for a push endpoint were dropped')
  }

  #connectionLost(): void {
    this.#setOpening('connecting')
    // Another bridge may have taken the session meanwhile: this one may have been frozen. To connect would evict it.
    if (!this.#seat.isShared) return
    void this.#work?.session.close().then(() => {
      if (!this.#closing.signal.aborted) this.#seat.ask()
    })
  }

  async #refusedAgain(error: CausewayError): Promise<void> {
    const work = this.#work!
    await work.session.close()
    if (work === this.#work && !this.#closing.signal.aborted) await this.#openFailed(error)
  }

  /** Another client has the session. */
  #evicted(): void {
    this.#standBy()
    this.#seat.evicted()
  }

  #standBy(): void {
    const work = this.#work
    this.#work = undefined
    this.#hadSession = false
    this.#isFailing = false
    if (work !== undefined) {
      // The broker sends all of it to the other bridge.
      void work.delivery.end().then(() => this.#release(work))
      void work.session.close()
    }
    this.#setOpening('standby')
  }

  #release({ acknowledge, intake, held }: Work): void {
    acknowledge()
    intake.release()
    held.release()
  }

  #succeeded(): void {
    if (!this.#isFailing) return
    this.#isFailing = false
    this.#options.log.info({ push: this.target.name }, 'a push endpoint answers again')
    this.#changed()
  }

  #failing(reason: string): void {
    this.#failed(reason)
    if (this.#isFailing) return
    this.#isFailing = true
    this.#options.log.warn(
      { push: this.target.name, reason },
      `${publicUrl(this.target)} does not take messages; trying again until it does`,
    )
    this.#changed()
  }

  #failed(reason: string): void {
    this.#lastError = { reason, at: new Date().toISOString() }
  }

  #setOpening(opening: 'connecting' | 'standby' | 'open' | 'refused'): void {
    const wasOpen = this.#opening === 'open'
    const before = this.#opening
    this.#opening = opening
    if (opening === 'open' && !wasOpen) {
      this.#options.log.info({ push: this.target.name }, 'this bridge delivers to a push endpoint')
    } else if (opening === 'standby' && before !== 'standby') {
      this.#options.log.info({ push: this.target.name }, 'another bridge delivers to a push endpoint; standing by')
    }
    this.#changed()
  }

  #changed(): void {
    const { state } = this
    if (state === this.#lastState) return
    this.#lastState = state
    this.#since = new Date()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
