import type { Message } from '../message.ts'
import { PacketIdTable } from './packet-id-table.ts'

/** How the broker identifies a QoS 1 message that it waits for an acknowledgement of. */
export interface Receipt {
  messageId: number
  /** The broker sent it before. */
  dup: boolean
}

interface UnacknowledgedMessage {
  message: Message
  messageId: number
  /** Counts on. */
  sequence: number
  /** It arrived on the current network connection, so it can be acknowledged there. */
  isAcknowledgeable: boolean
  isDone: boolean
}

/**
 * The QoS 1 messages of one session that are not acknowledged to the broker, in order of arrival, over all its network
 * connections. Before it has the acknowledgement, a broker sends the message again under the same packet identifier and
 * cannot use that for another one. Once PUBACK is written it may do so, whether or not PUBACK reaches it. So after that
 * nothing is remembered about the message.
 */
export class Unacknowledged {
  readonly #acknowledge: (messageId: number) => void
  readonly #byMessageId = new PacketIdTable<UnacknowledgedMessage>()
  /** Of all messages so far. */
  #count = 0
  /** Those that arrived on the current connection. Their PUBACKs are sent in this order [MQTT-4.6.0-2]. */
  #arrived: (UnacknowledgedMessage | undefined)[] = []
  /** How many of those, the oldest ones, are acknowledged. Each of them is undefined. */
  #acknowledged = 0
  /** Unacknowledged messages of earlier connections that have not come again, oldest first. */
  readonly #expected = new Set<UnacknowledgedMessage>()
  /** Packet identifiers of abandoned messages that were delivered before. They come again, perhaps without DUP. */
  readonly #redelivered = new PacketIdTable<true>()
  /** No message has come on the current connection yet. */
  #isFirst = true

  /** @param acknowledge writes PUBACK to the current connection */
  constructor(acknowledge: (messageId: number) => void) {
    this.#acknowledge = acknowledge
  }

  get size(): number {
    return this.#byMessageId.size
  }

  /**
   * Returns whether the message has to be delivered. False: it was delivered after it came on an earlier connection.
   * What may have been delivered before is marked `redelivered`.
   *
   * After a reconnect the broker sends again what it waits for, under the same packet identifiers and with DUP.
   * A message without DUP is never one of those [MQTT-3.3.1-1], whatever its identifier, and telemetry repeats its
   * payload. Some brokers (RabbitMQ, rumqttd) number packets from 1 on each connection. There an identifier proves
   * nothing, and everything is delivered again: a duplicate is allowed, an acknowledgement of a message that nobody saw
   * is not.
   */
  receive(message: Message, { messageId, dup }: Receipt): boolean {
    const [oldest] = this.#expected
    if (this.#isFirst && messageId === 1 && oldest !== undefined && oldest.messageId !== 1) this.#deliverAllAgain()
    this.#isFirst = false
    const known = this.#byMessageId.get(messageId)
    const isKnown = known !== undefined && !known.isAcknowledgeable && isSame(known.message, message)
    if (isKnown && dup) {
      this.#expected.delete(known)
      known.isAcknowledgeable = true
      this.#arrived.push(known)
      this.#acknowledgeDone()
      return false
    }
    if (known !== undefined) this.abandon(known.message)
    // Artemis and rumqttd never set DUP: this may be the message that they send again.
    if (this.#redelivered.delete(messageId) || dup || isKnown) message.redelivered = true
    if (!dup && !isKnown) this.#resendingEnded()
    const sequence = (this.#count += 1)
    const received = { message, messageId, sequence, isAcknowledgeable: true, isDone: false }
    message.messageId = messageId
    this.#byMessageId.set(messageId, received)
    this.#arrived.push(received)
    return true
  }

  /** The reader has it. PUBACK is sent once all earlier messages are done too, on this connection or the next. */
  done(message: Message): void {
    const known = this.#known(message)
    if (known === undefined) return
    known.isDone = true
    if (known.isAcknowledgeable) this.#acknowledgeDone()
  }

  /** The message is forgotten, and delivered when the broker sends it again on the next connection. */
  abandon(message: Message): void {
    const known = this.#known(message)
    if (known === undefined) return
    this.#forget(known)
    if (message.redelivered) this.#redelivered.set(known.messageId, true)
    // The messages that are abandoned are the latest ones, so the search ends at the end of the array.
    const index = this.#arrived.lastIndexOf(known)
    if (index >= 0) this.#arrived.splice(index, 1)
  }

  connectionLost(): void {
    for (const known of this.#arrived) if (known !== undefined) known.isAcknowledgeable = false
    this.#noneArrived()
    this.#expected.clear()
    const oldestFirst = [...this.#byMessageId.values()].sort((a, b) => a.sequence - b.sequence)
    for (const known of oldestFirst) this.#expected.add(known)
    this.#isFirst = true
  }

  /** The broker has lost the session, and all messages with it. */
  sessionLost(): void {
    this.#noneArrived()
    this.#expected.clear()
    this.#byMessageId.clear()
    this.#redelivered.clear()
  }

  #acknowledgeDone(): void {
    for (let known = this.#arrived[this.#acknowledged]; known?.isDone; known = this.#arrived[this.#acknowledged]) {
      this.#arrived[this.#acknowledged] = undefined
      this.#acknowledged += 1
      this.#acknowledge(known.messageId)
      this.#forget(known)
    }
    // Moving a thousand messages up for each one took a tenth of the time of a delivery to an endpoint.
    if (this.#acknowledged * 2 < this.#arrived.length) return
    this.#arrived.splice(0, this.#acknowledged)
    this.#acknowledged = 0
  }

  #noneArrived(): void {
    this.#arrived = []
    this.#acknowledged = 0
  }

  /**
   * A new message came. A broker sends everything again before anything new, so it does not wait for acknowledgements
   * of the messages that it has not sent again.
   */
  #resendingEnded(): void {
    for (const known of this.#expected) if (known.isDone) this.#forget(known)
    this.#expected.clear()
  }

  /** The broker does not keep packet identifiers: nothing that comes can be told to be a message that was delivered. */
  #deliverAllAgain(): void {
    for (const known of this.#expected) this.#forget(known)
    this.#expected.clear()
  }

  /** Another message may have the identifier by now. */
  #known(message: Message): UnacknowledgedMessage | undefined {
    const known = message.messageId === undefined ? undefined : this.#byMessageId.get(message.messageId)
    return known?.message === message ? known : undefined
  }

  #forget(known: UnacknowledgedMessage): void {
    if (this.#byMessageId.get(known.messageId) === known) this.#byMessageId.delete(known.messageId)
  }
}

function isSame(a: Message, b: Message): boolean {
  return a.topic === b.topic && a.payload.equals(b.payload)
}
