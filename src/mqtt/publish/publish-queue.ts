import { CausewayError } from '../../errors.ts'
import type { Capabilities } from '../capabilities.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import type { Acknowledgement } from '../client/packets.ts'
import type { Connection, ConnectionHandlers } from '../connection.ts'
import type { Message } from '../message.ts'
import { FIRST_REFUSAL, PACKET_IDENTIFIER_NOT_FOUND, reasonName, refusal } from '../reason-codes.ts'
import { InFlight, type InFlightHooks, type PublishResult } from './in-flight.ts'
import { Replay } from './replay.ts'
import { SendWindow } from './send-window.ts'
import { SentPublishes } from './sent-publishes.ts'

export interface PublishQueueLimits {
  /** Most publishes accepted and not yet answered. */
  maxInFlight: number
  /** The same in bytes of payload. */
  maxInFlightBytes: number
  timeoutMs: number
}

/**
 * Most unacknowledged publishes where the broker sets no limit (3.1.1). Mosquitto processes 20 at a time; QoS 2
 * messages beyond these it acknowledges as well, but loses when the connection is lost.
 */
const DEFAULT_WINDOW = 20

/**
 * The publishes of one connection, in order: those that wait, those on the wire, and those to be sent again after the
 * connection was lost. On the wire are never more than the broker's Receive Maximum.
 */
export class PublishQueue implements ConnectionHandlers {
  readonly #limits: PublishQueueLimits
  readonly #connection: Pick<Connection, 'network' | 'capabilities' | 'unavailable'>
  readonly #hooks: InFlightHooks = {
    settled: (publish) => this.#settled(publish),
    timedOut: (publish) => this.#timedOut(publish),
  }
  /** Those that have a packet identifier: also timed out ones, so that their identifiers are not used again. */
  readonly #sent = new SentPublishes()
  readonly #window = new SendWindow(this.#sent)
  readonly #replay = new Replay(this.#sent)
  #count = 0
  #bytes = 0
  /** Called when a publish is answered. */
  readonly #roomWaiters: (() => void)[] = []

  /** @param connect makes the connection with these handlers */
  constructor(
    limits: PublishQueueLimits,
    connect: (handlers: ConnectionHandlers) => Pick<Connection, 'network' | 'capabilities' | 'unavailable'>,
  ) {
    this.#limits = limits
    this.#connection = connect(this)
  }

  /** How many publishes are accepted and not yet answered. */
  get inFlight(): number {
    return this.#count
  }

  /**
   * Whether the limits allow this message. Also true while the broker cannot be reached: `publish` then fails at once.
   */
  hasRoom({ payload }: Message): boolean {
    const { maxInFlight, maxInFlightBytes } = this.#limits
    if (this.#connection.unavailable !== undefined || this.#count === 0) return true
    return this.#count < maxInFlight && this.#bytes + payload.length <= maxInFlightBytes
  }

  /** Resolves when the next publish is answered. */
  freed(): Promise<void> {
    return new Promise((resolve) => this.#roomWaiters.push(resolve))
  }

  /**
   * @throws CausewayError synchronously if the broker cannot be reached or the limits are reached; the promise rejects
   *   with the broker's answer, or with its absence
   */
  publish(message: Message): Promise<PublishResult> {
    const { unavailable } = this.#connection
    if (unavailable !== undefined) throw unavailable
    if (!this.hasRoom(message)) {
      throw new CausewayError(
        'overloaded',
        `${this.#count} messages already wait for the broker's answer; this one was not sent`,
        { outcome: 'not-sent', retryAfter: 1 },
      )
    }
    const publish = new InFlight(message, this.#limits.timeoutMs, this.#hooks)
    this.#count += 1
    this.#bytes += message.payload.length
    this.#window.add(publish)
    this.#pump()
    return publish.result
  }

  connected(_network: NetworkConnection, _capabilities: Capabilities, sessionPresent: boolean): void {
    this.#replay.connected(sessionPresent)
    this.#pump()
  }

  lost(): void {
    this.#window.connectionLost()
    this.#replay.connectionLost()
  }

  unreachable(error: CausewayError): void {
    this.#window.failWaiting(error)
  }

  flushed(): void {
    this.#window.flushed()
  }

  drained(): void {
    this.#pump()
  }

  acknowledged({ cmd, messageId, reasonCode, properties }: Acknowledgement): void {
    const publish = this.#sent.get(messageId)
    if (publish === undefined || (cmd === 'puback') !== (publish.message.qos === 1)) return
    const { network, capabilities } = this.#connection
    const code = capabilities!.protocol === 5 ? (reasonCode ?? 0) : undefined
    if (cmd === 'pubrec' && (code ?? 0) < FIRST_REFUSAL) return publish.received(code, network)
    if (cmd === 'pubcomp') {
      if (publish.state === 'published') return
      this.#completed(publish, code)
    } else this.#answered(publish, code, properties?.reasonString)
    this.#pump()
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

  #answered(publish: InFlight, code: number | undefined, reasonString: string | undefined): void {
    this.#sent.delete(publish)
    this.#replay.answered(publish)
    if (code !== undefined && code >= FIRST_REFUSAL) {
      publish.fail(refusal(code, `The broker refused the message for ${publish.message.topic}`, reasonString))
    } else publish.succeed(code)
  }

  /** Sends what may be sent now. */
  #pump(): void {
    const { network, capabilities } = this.#connection
    if (network === undefined) return
    const windowSize = this.#windowSize(capabilities!)
    if (this.#replay.isDone || this.#replay.run(network, capabilities!, windowSize)) {
      this.#window.send(network, capabilities!, windowSize)
    }
  }

  #windowSize({ receiveMaximum = DEFAULT_WINDOW }: Capabilities): number {
    return Math.min(receiveMaximum, this.#limits.maxInFlight)
  }

  #settled({ message }: InFlight): void {
    this.#count -= 1
    this.#bytes -= message.payload.length
    for (const resolve of this.#roomWaiters.splice(0)) resolve()
  }

  #timedOut(publish: InFlight): void {
    if (publish.state === 'waiting') this.#window.remove(publish)
    this.#replay.remove(publish)
    if (this.#isStuck()) this.#connection.network!.destroy()
    else this.#pump()
  }

  /** Whether publishes that no caller waits for any more fill the whole window: the broker does not answer at all. */
  #isStuck(): boolean {
    const { network, capabilities } = this.#connection
    if (network === undefined || this.#sent.size < this.#windowSize(capabilities!)) return false
    return this.#sent.list().every(({ isSettled }) => isSettled)
  }
}
