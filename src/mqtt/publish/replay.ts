import type { CausewayError } from '../../errors.ts'
import { type Capabilities, checkPublish } from '../capabilities.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { packetSize } from '../client/packets.ts'
import type { InFlight } from './in-flight.ts'
import type { SentPublishes } from './sent-publishes.ts'

/**
 * How many publishes are sent again one at a time. If the broker closes the connection because of one of them, only
 * that one was on the wire, and no other is sent for the second time in vain.
 */
const ONE_AT_A_TIME = 20
/** A publish is sent on this many network connections at most. */
const CONNECTIONS_MAX = 2

/**
 * After the connection was lost: sends the unacknowledged publishes again on the next one, in order, before any new
 * one. New ones wait for all of them. That keeps the order of each topic, and keeps new ones away from a message over
 * which the broker closes the connection.
 */
export class Replay {
  readonly #sent: SentPublishes
  /** Sent on earlier network connections only, in order. May hold some that have left `#sent` since. */
  #pending: InFlight[] = []
  /** Sent again and not answered yet. */
  readonly #unanswered = new Set<InFlight>()
  /**
   * QoS 2 messages that no caller waits for any more. The broker may still hold such a message, and would take the next
   * one with the same identifier for a copy of it. PUBREL ends that, without publishing it again.
   */
  #abandoned: InFlight[] = []
  #answeredCount = 0

  constructor(sent: SentPublishes) {
    this.#sent = sent
  }

  /** Nothing is left to send, and everything that was sent again is answered. */
  get isDone(): boolean {
    return this.#pending.length === 0 && this.#unanswered.size === 0 && this.#abandoned.length === 0
  }

  /** Whether it is still to be sent on this network connection. */
  isPending(publish: InFlight): boolean {
    return this.#pending.includes(publish)
  }

  /**
   * @returns whether the broker may hold a QoS 2 message that it cannot be told to release. It counts such a message
   *   against its Receive Maximum for as long as the session lasts, so the session has to be discarded.
   */
  connectionLost(): boolean {
    let isBrokerOwing = false
    this.#unanswered.clear()
    this.#abandoned = []
    for (const publish of this.#sent.list()) {
      // After the caller got the error below, there is one more connection to free the identifier at the broker.
      if (publish.connections > CONNECTIONS_MAX) {
        isBrokerOwing ||= publish.message.qos === 2
        this.#sent.delete(publish)
      } else if (publish.connections === CONNECTIONS_MAX) {
        publish.failUnknown(
          'the connection was lost twice while the message was in flight; the broker may refuse it that way',
        )
      }
    }
    this.#pending = this.#sent.list()
    return isBrokerOwing
  }

  /**
   * @param sessionPresent the broker certainly has the session of the connection before
   * @param hasSession the broker has a session, which may be that one or a new one
   */
  connected(sessionPresent: boolean, hasSession: boolean): void {
    this.#answeredCount = 0
    if (sessionPresent) return
    for (const publish of this.#pending) {
      if (publish.message.qos < 2) continue
      // Without its session the broker cannot know that it has had the message, and would publish it a second time.
      publish.failUnknown('the broker may have lost its session while the message was in flight')
      // If the session is the same all the same, the broker holds the message: `run` then sends PUBREL.
      if (!hasSession) this.#sent.delete(publish)
    }
  }

  /** Sends as much as may be sent now. Returns `isDone`. */
  run(network: NetworkConnection, capabilities: Capabilities, windowSize: number): boolean {
    const unansweredMax =
      this.#answeredCount < ONE_AT_A_TIME ? 1 : Math.min(this.#answeredCount - ONE_AT_A_TIME + 2, windowSize)
    while (this.#pending.length > 0 && this.#unanswered.size < unansweredMax && network.writable) {
      const publish = this.#pending.shift()!
      if (!this.#sent.has(publish)) continue
      if (publish.isSettled) this.#abandon(publish)
      else this.#sendAgain(publish, network, capabilities)
    }
    if (this.#pending.length > 0 || this.#unanswered.size > 0) return false
    for (const publish of this.#abandoned.splice(0)) publish.freeIdentifier(network)
    return true
  }

  /** The broker has acknowledged it. */
  answered(publish: InFlight): void {
    if (this.#unanswered.delete(publish)) this.#answeredCount += 1
  }

  /** Its answer is not waited for any more. */
  remove(publish: InFlight): void {
    this.#unanswered.delete(publish)
  }

  #sendAgain(publish: InFlight, network: NetworkConnection, capabilities: Capabilities): void {
    if (publish.state === 'published') {
      const { message } = publish
      try {
        checkPublish(message, capabilities, () => packetSize(message))
      } catch (error) {
        publish.failUnknown(`the broker came back with other limits. ${(error as CausewayError).message}`)
        return this.#abandon(publish)
      }
    }
    this.#unanswered.add(publish)
    publish.sendAgain(network)
  }

  #abandon(publish: InFlight): void {
    if (publish.message.qos === 2) this.#abandoned.push(publish)
    else this.#sent.delete(publish)
  }
}
