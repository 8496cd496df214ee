import { CausewayError } from '../../errors.ts'
import type { Message } from '../message.ts'
import { NO_MATCHING_SUBSCRIBERS, reasonName, SUCCESS } from '../reason-codes.ts'

/** What the broker answered. For QoS 0, and reason codes over MQTT 3.1.1, there is no answer: null. */
export interface PublishResult {
  topic: string
  qos: 0 | 1 | 2
  reasonCode: number | null
  reason: string | null
  /** Whether anybody subscribes to the topic; null where the broker does not say. */
  matchedSubscribers: boolean | null
}

export interface InFlightHooks {
  /** Called once, just before the caller has the answer. */
  settled(entry: InFlight): void
  /** Called behind `settled` where it was the timeout that did it. */
  timedOut(entry: InFlight): void
}

/** One accepted publish, until it is answered and, on the wire, acknowledged. */
export class InFlight {
  readonly message: Message
  readonly result: Promise<PublishResult>
  /** Packet identifier, from the first time it is sent. */
  id = 0
  /** Its place among those sent on the connection. */
  order = 0
  /** Network connections it was sent on. */
  sent = 0
  /** PUBRELs sent (QoS 2). The first answers PUBREC: from then on PUBREL is what is sent again. */
  releases = 0
  /** Reason code of PUBREC (QoS 2). */
  receivedCode: number | undefined
  /** The caller has the answer. */
  settled = false
  #resolve!: (result: PublishResult) => void
  #reject!: (error: CausewayError) => void
  readonly #timer: NodeJS.Timeout
  readonly #hooks: InFlightHooks

  constructor(message: Message, timeoutMs: number, hooks: InFlightHooks) {
    this.message = message
    this.#hooks = hooks
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#timer = setTimeout(() => {
      this.fail(timeoutError(timeoutMs, this.sent > 0))
      hooks.timedOut(this)
    }, timeoutMs)
  }

  /** `reasonCode` is undefined over MQTT 3.1.1, and for QoS 0, which nothing acknowledges. */
  succeed(reasonCode: number | undefined): void {
    if (!this.#settle()) return
    const { topic, qos } = this.message
    const matchedSubscribers = reasonCode === NO_MATCHING_SUBSCRIBERS ? false : reasonCode === SUCCESS ? true : null
    this.#resolve({
      topic,
      qos,
      reasonCode: reasonCode ?? null,
      reason: reasonCode === undefined ? null : reasonName(reasonCode),
      matchedSubscribers,
    })
  }

  fail(error: CausewayError): void {
    if (this.#settle()) this.#reject(error)
  }

  /** Fails with an outcome that nobody knows. */
  interrupt(why: string): void {
    this.fail(
      new CausewayError('publish-interrupted', `Whether the message was published is not known: ${why}`, {
        outcome: 'unknown',
      }),
    )
  }

  #settle(): boolean {
    if (this.settled) return false
    this.settled = true
    clearTimeout(this.#timer)
    this.#hooks.settled(this)
    return true
  }
}

function timeoutError(timeoutMs: number, sent: boolean): CausewayError {
  return sent
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
