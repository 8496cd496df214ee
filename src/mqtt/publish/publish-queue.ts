import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import type { Capabilities } from '../capabilities.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import type { Acknowledgement } from '../client/packets.ts'
import type { Connection, ConnectionHandlers } from '../connection.ts'
import type { Message } from '../message.ts'
import {
  FIRST_REFUSAL,
  NO_MATCHING_SUBSCRIBERS,
  PACKET_IDENTIFIER_IN_USE,
  PACKET_IDENTIFIER_NOT_FOUND,
  reasonName,
  refusal,
} from '../reason-codes.ts'
import { AnswerTime } from './answer-time.ts'
import { Deadlines } from './deadlines.ts'
import { InFlight, type InFlightHooks, type PublishResult } from './in-flight.ts'
import { Replay } from './replay.ts'
import { SendWindow } from './send-window.ts'
import { SentPublishes } from './sent-publishes.ts'

export interface PublishQueueLimits {
  /** Most publishes accepted and not yet answered. */
  maxInFlight: number
  /** The same in bytes of payload. */
  maxInFlightBytes: number
  /** How long a publish may have to wait for others until it is sent. */
  waitMaxMs: number
  timeoutMs: number
}

/**
 * Most unacknowledged publishes where the broker sets no limit (3.1.1). Mosquitto processes 20 at a time; QoS 2
 * messages beyond these it acknowledges as well, but loses when the connection is lost.
 */
const DEFAULT_WINDOW = 20
/** How much of the room messages of batches may take. The rest is for single publishes. */
const BATCH_PART = 0.75
/** The same of the time that publishes may wait for others. */
const BATCH_TIME_PART = 0.5

/** Whether the broker was seen to say 0x10 (no matching subscribers), by QoS. For all connections to one broker. */
export type SaysNoSubscribers = [boolean, boolean, boolean]

type QueueConnection = Pick<Connection, 'network' | 'capabilities' | 'unavailable' | 'discardSession'>

/**
 * The publishes of one connection, in order: those that wait, those on the wire, and those to be sent again after the
 * connection was lost. On the wire are never more than the broker's Receive Maximum.
 */
export class PublishQueue implements ConnectionHandlers {
  readonly #limits: PublishQueueLimits
  readonly #saysNoSubscribers: SaysNoSubscribers
  readonly #mixesOrder: () => boolean
  readonly #connection: QueueConnection
  readonly #hooks: InFlightHooks = {
    settled: (publish, result, error) => this.#settled(publish, result, error),
    timedOut: (publish) => this.#timedOut(publish),
  }
  /** Those that have a packet identifier: also timed out ones, so that their identifiers are not used again. */
  readonly #sent = new SentPublishes()
  readonly #deadlines: Deadlines
  readonly #answerTime: AnswerTime
  readonly #window: SendWindow
  readonly #replay = new Replay(this.#sent)
  #count = 0
  #bytes = 0
  /** When the last acknowledgement came or, if that was later, the connection was made. */
  #lastAnswerAt = 0
  #stuckTimer: NodeJS.Timeout | undefined
  /** Called when there may be room: a publish was answered, or the broker cannot be reached and none has to wait. */
  onRoom = () => {}
  /** Called with each message that was accepted, and how it ended, just before its caller gets that. */
  onSettled = (
    _message: Message,
    _acceptedAt: number,
    _result: PublishResult | undefined,
    _error: CausewayError | undefined,
  ): void => {}

  /**
   * @param connect makes the connection with these handlers
   * @param mixesOrder whether the broker mixes messages that are on their way together, so that they go one by one
   */
  constructor(
    limits: PublishQueueLimits,
    saysNoSubscribers: SaysNoSubscribers,
    connect: (handlers: ConnectionHandlers) => QueueConnection,
    mixesOrder: () => boolean = () => false,
  ) {
    this.#limits = limits
    this.#mixesOrder = mixesOrder
    this.#saysNoSubscribers = saysNoSubscribers
    this.#deadlines = new Deadlines(limits.timeoutMs)
    this.#answerTime = new AnswerTime(limits.timeoutMs)
    this.#window = new SendWindow(this.#sent, this.#answerTime)
    this.#connection = connect(this)
  }

  /** How many publishes are accepted and not yet answered. */
  get inFlight(): number {
    return this.#count
  }

  /** How many were sent and are not acknowledged, whether their callers have an answer (504) or not. */
  get unacknowledged(): number {
    return this.#sent.size
  }

  /** How many of those in flight are not sent yet. */
  get waiting(): number {
    return this.#window.waiting.count
  }

  /** When the oldest of them was accepted, of `performance.now()`; Infinity where there is none. */
  get oldestAt(): number {
    return this.#deadlines.first?.acceptedAt ?? Infinity
  }

  /**
   * Whether there is room for one more message of a batch. Single publishes may use the whole room, so a part of it is
   * left to them. Also true while the broker cannot be reached: `publish` then fails at once.
   * @param batched how many messages of batches are in flight
   */
  hasRoomForBatch(message: Message, batched: number): boolean {
    if (this.#connection.unavailable !== undefined || this.#count === 0) return true
    const { maxInFlight } = this.#limits
    const room = Math.max(BATCH_PART * maxInFlight, Math.min(maxInFlight, DEFAULT_WINDOW))
    if (batched >= room || this.#fullness(message, batched === 0 ? 1 : BATCH_PART) !== undefined) return false
    return this.#answersInTimeForBatch(batched)
  }

  /**
   * @param now of `performance.now()`
   * @param givesWay whether it may be refused, as long as it waits, when another caller needs its room
   * @throws CausewayError synchronously if the broker cannot be reached, the limits are reached, or the broker is so
   *   slow that it would not acknowledge in time; the promise rejects with the broker's answer, or with its absence
   */
  publish(message: Message, share: MemoryShare, now = performance.now(), givesWay = true): Promise<PublishResult> {
    const { unavailable } = this.#connection
    if (unavailable !== undefined) throw unavailable
    const refused = this.#slowness(share.name) ?? this.#makeRoom(message, share.name)
    if (refused !== undefined) throw refused
    const publish = new InFlight(message, share, this.#limits.timeoutMs, this.#hooks, { now, givesWay })
    this.#deadlines.add(publish)
    this.#count += 1
    this.#bytes += message.payload.length
    if (!this.#trySend(publish, now)) {
      this.#window.waiting.add(publish)
      this.#pump(now)
    }
    return publish.result
  }

  #answersInTimeForBatch(batched: number): boolean {
    const waiting = this.#window.waiting.count
    const { capabilities } = this.#connection
    if (waiting === 0 || capabilities === undefined) return true
    const { waitMs, expectedMs } = this.#behind(waiting, capabilities)
    // How fast the broker is shows with its first acknowledgement. A broker that is slow must not have got so many
    // messages until then that the last ones cannot be sent in time.
    if (expectedMs === 0) return waiting < this.#windowSize(capabilities)
    const { waitMaxMs, timeoutMs } = this.#limits
    const part = batched === 0 ? 1 : BATCH_TIME_PART
    return waitMs <= waitMaxMs * part && waitMs + expectedMs <= timeoutMs * part
  }

  /** Why the limits in number and bytes do not allow the message. `part` is how much of the bytes it may use. */
  #fullness({ payload }: Message, part: number): CausewayError | undefined {
    const { maxInFlight, maxInFlightBytes } = this.#limits
    if (this.#count === 0) return undefined
    if (this.#count < maxInFlight && this.#bytes + payload.length <= maxInFlightBytes * part) return undefined
    return overloaded(`${this.#count} messages already wait for the broker's answer; this one was not sent`, 1)
  }

  /**
   * Why the limits do not allow the message. The caller that has most messages waiting has to give way to one that has
   * fewer: its newest ones, which were not sent yet, are refused in the place of this one.
   */
  #makeRoom(message: Message, caller: string): CausewayError | undefined {
    const { waiting } = this.#window
    for (;;) {
      const full = this.#fullness(message, 1)
      if (full === undefined) return undefined
      const other = waiting.toMakeRoomFor(caller)
      if (other === undefined) return full
      waiting.remove(other)
      other.fail(overloaded('Other callers need the room in which this message waited; it was not sent', 1))
    }
  }

  /**
   * Why a message that is accepted now would be late. One that waits for long keeps its caller waiting for nothing, and
   * sent too late, it would be a duplicate.
   */
  #slowness(caller: string): CausewayError | undefined {
    const ahead = this.#window.waiting.countAhead(caller)
    const { capabilities } = this.#connection
    if (ahead === 0 || capabilities === undefined) return undefined
    const { waitMaxMs, timeoutMs } = this.#limits
    const { waitMs, expectedMs } = this.#behind(ahead, capabilities)
    if (waitMs > waitMaxMs) {
      return overloaded(
        `Behind ${ahead} others, this message would wait for about ${Math.ceil(waitMs)} ms until it is sent, and ` +
          `CAUSEWAY_PUBLISH_WAIT_MS is ${waitMaxMs}; it was not sent`,
        Math.max(1, Math.ceil((waitMs - waitMaxMs) / 1000)),
      )
    }
    if (waitMs + expectedMs <= timeoutMs) return undefined
    return overloaded(
      `Behind ${ahead} others, the broker would acknowledge this message in about ` +
        `${Math.ceil(waitMs + expectedMs)} ms, which is longer than ${timeoutMs} ms; it was not sent`,
      Math.max(1, Math.ceil((waitMs + expectedMs - timeoutMs) / 1000)),
    )
  }

  /** How long a message behind so many others waits until it is sent, and then for its acknowledgement. */
  #behind(ahead: number, capabilities: Capabilities): { waitMs: number; expectedMs: number } {
    const now = performance.now()
    return {
      waitMs: this.#answerTime.waitMs(ahead, this.#windowSize(capabilities), now),
      expectedMs: this.#answerTime.expectedMs(now),
    }
  }

  connected(
    _network: NetworkConnection,
    _capabilities: Capabilities,
    sessionPresent: boolean,
    hasSession = sessionPresent,
  ): void {
    this.#lastAnswerAt = performance.now()
    // It may be another broker.
    if (!hasSession) this.#saysNoSubscribers.fill(false)
    this.#replay.connected(sessionPresent, hasSession)
    this.#pump()
  }

  lost(): void {
    clearTimeout(this.#stuckTimer)
    this.#window.connectionLost()
    if (this.#replay.connectionLost()) this.#connection.discardSession()
  }

  unreachable(error: CausewayError): void {
    this.#window.failWaiting(error)
    this.onRoom()
  }

  flushed(): void {
    this.#window.flushed(this.#connection.network?.writable === false)
  }

  drained(): void {
    this.#window.drained()
    this.#pump()
  }

  acknowledged({ cmd, messageId, reasonCode, properties }: Acknowledgement): void {
    const publish = this.#sent.get(messageId)
    if (publish === undefined) return
    // A broker acknowledges what came on this connection. After a resume mochi and comqtt send acknowledgements that
    // they kept from the connection before, although they have not passed the message on: it is sent again, marked.
    if (this.#replay.isPending(publish)) return
    const { qos } = publish.message
    // Brokers without QoS 2, such as RabbitMQ, answer it with PUBACK and have taken the message as one of QoS 1.
    const isLowered = qos === 2 && cmd === 'puback' && publish.state === 'published'
    if ((cmd === 'puback') !== (qos === 1) && !isLowered) return
    this.#lastAnswerAt = performance.now()
    const { network, capabilities } = this.#connection
    const code = capabilities!.protocol === 5 ? (reasonCode ?? 0) : undefined
    if (code === NO_MATCHING_SUBSCRIBERS) this.#saysNoSubscribers[qos] = true
    if (cmd === 'pubrec' && (code ?? 0) < FIRST_REFUSAL) return publish.received(code, network)
    if (cmd === 'pubcomp') {
      if (publish.state === 'published') return
      this.#completed(publish, code)
    } else if (cmd === 'pubrec' && code === PACKET_IDENTIFIER_IN_USE && network !== undefined) {
      // The broker holds an earlier message under this identifier, and would do so for ever.
      if (publish.connections === 1) publish.fail(refusal(code, refusedText(publish)))
      else publish.failUnknown('the broker holds a message with its identifier, which may be this one')
      publish.freeIdentifier(network)
    } else this.#answered(publish, code, properties?.reasonString, isLowered)
    this.#pump(this.#lastAnswerAt)
  }

  /** PUBCOMP came. The caller gets the reason code of PUBREC. */
  #completed(publish: InFlight, code: number | undefined): void {
    // To a repeated PUBREL, "packet identifier not found" means that the first one was already processed.
    const isCompleted =
      code === undefined ||
      code < FIRST_REFUSAL ||
      (code === PACKET_IDENTIFIER_NOT_FOUND && publish.state === 'released-again')
    if (isCompleted) return this.#answered(publish, publish.pubrecCode, undefined)
    this.#sent.delete(publish)
    this.#replay.remove(publish)
    publish.failUnknown(`the broker answered PUBREL with: ${reasonName(code)}`)
  }

  #answered(publish: InFlight, code: number | undefined, reasonString: string | undefined, isLowered = false): void {
    this.#sent.delete(publish)
    this.#replay.answered(publish)
    // The time of one that was sent again would tell more of the outage than of the broker.
    if (publish.connections === 1) this.#answerTime.add(this.#lastAnswerAt - publish.sentAt, this.#lastAnswerAt)
    if (code !== undefined && code >= FIRST_REFUSAL) publish.fail(refusal(code, refusedText(publish), reasonString))
    else publish.succeed(code, this.#saysNoSubscribers[publish.message.qos], isLowered)
  }

  #trySend(publish: InFlight, now: number): boolean {
    const { network, capabilities } = this.#connection
    if (network === undefined || !this.#replay.isDone) return false
    return this.#window.trySend(publish, network, capabilities!, this.#windowSize(capabilities!), now)
  }

  /** Sends what may be sent now. */
  #pump(now = performance.now()): void {
    const { network, capabilities } = this.#connection
    if (network === undefined) return
    const windowSize = this.#windowSize(capabilities!)
    if (this.#replay.isDone || this.#replay.run(network, capabilities!, windowSize)) {
      this.#window.send(network, capabilities!, windowSize, now)
    }
  }

  #windowSize({ receiveMaximum = DEFAULT_WINDOW }: Capabilities): number {
    if (this.#mixesOrder()) return 1
    return Math.min(receiveMaximum, this.#limits.maxInFlight)
  }

  #settled(publish: InFlight, result: PublishResult | undefined, error: CausewayError | undefined): void {
    this.#deadlines.remove(publish)
    this.#sent.abandoned(publish)
    this.#count -= 1
    this.#bytes -= publish.message.payload.length
    this.onSettled(publish.message, publish.acceptedAt, result, error)
    this.onRoom()
  }

  #timedOut(publish: InFlight): void {
    if (publish.state === 'waiting') this.#window.waiting.remove(publish)
    this.#replay.remove(publish)
    this.#endIfStuck()
    this.#pump()
  }

  /**
   * Ends a connection on which the broker does not answer: publishes that no caller waits for any more fill the whole
   * window, and no acknowledgement has come for the timeout. A broker that is only slow still sends some.
   */
  #endIfStuck(): void {
    clearTimeout(this.#stuckTimer)
    const { network, capabilities } = this.#connection
    if (network === undefined || this.#sent.awaited > 0 || this.#sent.size < this.#windowSize(capabilities!)) return
    const remainingMs = this.#lastAnswerAt + this.#limits.timeoutMs - performance.now()
    if (remainingMs <= 0) network.destroy()
    else this.#stuckTimer = setTimeout(() => this.#endIfStuck(), Math.ceil(remainingMs)).unref()
  }
}

function overloaded(detail: string, retryAfter: number): CausewayError {
  return new CausewayError('overloaded', detail, { outcome: 'not-sent', retryAfter })
}

function refusedText({ message }: InFlight): string {
  return `The broker refused the message for ${message.topic}`
}
