import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { type Message, sizeOf } from '../message.ts'
import { NO_MATCHING_SUBSCRIBERS, reasonName, SUCCESS } from '../reason-codes.ts'

/** What the broker answered. QoS 0 has no answer, and MQTT 3.1.1 no reason codes: these fields are null then. */
export interface PublishResult {
  topic: string
  /** The QoS that the broker acknowledged: 1 where it answered a QoS 2 message with PUBACK. */
  qos: 0 | 1 | 2
  reasonCode: number | null
  reason: string | null
  /** Whether anybody subscribes to the topic; null where the broker does not say. */
  matchedSubscribers: boolean | null
}

/** The reason in the result where a broker answers QoS 2 with PUBACK, as RabbitMQ does, which has no QoS 2. */
const LOWERED = 'Acknowledged with PUBACK, as QoS 1: the broker does not support QoS 2'

export interface InFlightHooks {
  /** Called once, just before the caller gets the result or the error, one of which is undefined. */
  settled(publish: InFlight, result: PublishResult | undefined, error: CausewayError | undefined): void
  /** Called after `settled`, if the timeout was the reason. */
  timedOut(publish: InFlight): void
}

/**
 * How far a publish has come on the wire:
 * - `waiting`: not sent. QoS 0 stays so until it succeeds.
 * - `published`: PUBLISH was sent.
 * - `released`: PUBREL was sent (QoS 2), after PUBREC or to free the identifier. Only PUBREL is sent again then.
 * - `released-again`: PUBREL was sent more than once.
 */
export type PublishState = 'waiting' | 'published' | 'released' | 'released-again'

/** One accepted publish, until the caller has the result and, if it was sent, the broker has acknowledged it. */
export class InFlight {
  readonly message: Message
  readonly result: Promise<PublishResult>
  /** From the first time it is sent. */
  packetId = 0
  /** Its position in the order of sending. */
  sequence = 0
  state: PublishState = 'waiting'
  /** How many network connections it was sent on. */
  connections = 0
  /** Reason code of PUBREC (QoS 2); undefined over MQTT 3.1.1. */
  pubrecCode: number | undefined
  /** When it was sent, in milliseconds of `performance.now()`. */
  sentAt = 0
  /** When it was accepted, and when its caller gets an error if nothing has come, in the same milliseconds. */
  readonly acceptedAt: number
  readonly deadline: number
  /** Its neighbours among all whose callers wait. Set by `Deadlines`. */
  earlier: InFlight | undefined
  later: InFlight | undefined
  /** It may be refused, as long as it waits, when another caller needs its room. Messages of a batch do not. */
  readonly givesWay: boolean
  /** The caller has the result or the error. */
  isSettled = false
  /**
   * Its bytes are still needed, whether the caller has its answer or not: it has a packet identifier, or the socket has
   * not sent it yet.
   */
  #isInUse = false
  readonly #share: MemoryShare
  readonly #bytes: number
  #resolve!: (result: PublishResult) => void
  #reject!: (error: CausewayError) => void
  readonly #hooks: InFlightHooks

  /**
   * @param share holds the message until the caller has the answer and its bytes are not needed any more
   * @throws CausewayError `overloaded` if the share has no room
   */
  constructor(
    message: Message,
    share: MemoryShare,
    timeoutMs: number,
    hooks: InFlightHooks,
    { now = performance.now(), givesWay = true }: { now?: number; givesWay?: boolean } = {},
  ) {
    this.message = message
    this.givesWay = givesWay
    this.#hooks = hooks
    this.#share = share
    this.#bytes = sizeOf(message)
    if (!share.take('publishes', this.#bytes)) throw memoryIsShort()
    this.acceptedAt = now
    this.deadline = now + timeoutMs
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** The name of its caller's share. */
  get caller(): string {
    return this.#share.name
  }

  /** Its bytes are needed until `release`. */
  retain(): void {
    this.#isInUse = true
  }

  release(): void {
    if (!this.#isInUse) return
    this.#isInUse = false
    if (this.isSettled) this.#share.give('publishes', this.#bytes)
  }

  /** Sends it for the first time, at QoS 1 or 2; it has its `packetId`. */
  send(network: NetworkConnection, now: number): void {
    this.state = 'published'
    this.connections = 1
    this.sentAt = now
    network.publish(this.message, this.packetId, false)
  }

  /** Sends PUBLISH or PUBREL again, on another network connection. */
  sendAgain(network: NetworkConnection): void {
    this.connections += 1
    if (this.state === 'published') network.publish(this.message, this.packetId, true)
    else this.#sendPubrel(network)
  }

  /** Answers PUBREC, where the network connection still stands. */
  received(pubrecCode: number | undefined, network: NetworkConnection | undefined): void {
    this.pubrecCode = pubrecCode
    if (network !== undefined) this.#sendPubrel(network)
  }

  /** Sends PUBREL on another network connection, whether PUBREC came or not, so that the identifier becomes free. */
  freeIdentifier(network: NetworkConnection): void {
    this.connections += 1
    this.#sendPubrel(network)
  }

  /**
   * @param reasonCode undefined over MQTT 3.1.1, and for QoS 0, which is not acknowledged
   * @param tellsNoSubscribers the broker is known to say at this QoS that nobody subscribes, so 0x00 says that somebody
   *   does
   * @param isLowered PUBACK came for QoS 2
   */
  succeed(reasonCode: number | undefined, tellsNoSubscribers: boolean, isLowered = false): void {
    if (this.isSettled) return
    const { topic, qos } = this.message
    const matchedSubscribers =
      reasonCode === NO_MATCHING_SUBSCRIBERS ? false : reasonCode === SUCCESS && tellsNoSubscribers ? true : null
    const result = {
      topic,
      qos: isLowered ? 1 : qos,
      reasonCode: reasonCode ?? null,
      reason: isLowered ? LOWERED : reasonCode === undefined ? null : reasonName(reasonCode),
      matchedSubscribers,
    } as const
    this.#settle(result, undefined)
    this.#resolve(result)
  }

  fail(error: CausewayError): void {
    if (this.isSettled) return
    this.#settle(undefined, error)
    this.#reject(error)
  }

  /** Its deadline has come. */
  expire(timeoutMs: number): void {
    this.fail(timeoutError(timeoutMs, this.state !== 'waiting'))
    this.#hooks.timedOut(this)
  }

  /** Fails with an error that says that nobody knows whether the message was published. */
  failUnknown(why: string): void {
    this.fail(
      new CausewayError('publish-interrupted', `Whether the message was published is not known: ${why}`, {
        outcome: 'unknown',
      }),
    )
  }

  #sendPubrel(network: NetworkConnection): void {
    this.state = this.state === 'published' ? 'released' : 'released-again'
    network.release(this.packetId)
  }

  #settle(result: PublishResult | undefined, error: CausewayError | undefined): void {
    this.isSettled = true
    if (!this.#isInUse) this.#share.give('publishes', this.#bytes)
    this.#hooks.settled(this, result, error)
  }
}

function timeoutError(timeoutMs: number, wasSent: boolean): CausewayError {
  return wasSent
    ? new CausewayError(
        'acknowledgement-timeout',
        `The broker did not acknowledge within ${timeoutMs} ms; the message may or may not have been published`,
        { outcome: 'unknown' },
      )
    : new CausewayError(
        'acknowledgement-timeout',
        `The message waited ${timeoutMs} ms behind others the broker did not acknowledge, and was not sent`,
        { outcome: 'not-sent' },
      )
}

function memoryIsShort(): CausewayError {
  return new CausewayError(
    'overloaded',
    'This caller already has as much memory as CAUSEWAY_MEMORY_BYTES leaves it; the message was not sent',
    { outcome: 'not-sent', retryAfter: 1 },
  )
}
