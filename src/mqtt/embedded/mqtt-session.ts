import type { IPublishPacket } from 'mqtt-packet'
import type { Held } from '../../memory/account.ts'
import type { QoS } from '../message.ts'
import { FIRST_REFUSAL, PACKET_IDENTIFIER_NOT_FOUND, SUCCESS } from '../reason-codes.ts'
import { type BrokerMessage, forwardedProperties, isExpired, type KeptMessages } from './broker-message.ts'
import type { SharedGroup, Subscription } from './subscriptions.ts'

/** A message on its way to one session. */
export interface Delivery {
  message: BrokerMessage
  qos: QoS
  retain: boolean
  identifiers: readonly number[]
  /** The shared subscription that it came by: where the session ends, another member gets it. */
  group?: SharedGroup
  /** Another member of the group may have had it, so it is sent with DUP. */
  isRepeated?: boolean
}

/** What is sent and not yet acknowledged. */
interface Sent extends Delivery {
  /** Whether PUBREC has come, so that PUBREL is what is sent again [MQTT-4.4.0-1]. */
  isReleased: boolean
}

/** The network connection of a session, as the session uses it. */
export interface SessionConnection {
  /** Whether more may be sent; `resume` of the session is called once it may. */
  readonly hasRoom: boolean
  send(packet: IPublishPacket | { cmd: 'pubrel'; messageId: number; reasonCode: number }): void
  /** Whether the client takes packets of this size. */
  accepts(packet: IPublishPacket): boolean
}

const MAX_PACKET_ID = 65_535
/** Roughly what a session and one of its subscriptions take in memory, in bytes, without their strings. */
const SESSION_BYTES = 2048
const SUBSCRIPTION_BYTES = 512
/** Roughly what the place of a message in its queue takes. */
const DELIVERY_BYTES = 128

/**
 * What the broker keeps of a client for as long as its session lives (MQTT 5 section 4.1): subscriptions, messages at
 * QoS 1 and 2 that it does not have yet, and packet ids of its own QoS 2 publishes. Nothing of it outlives the process.
 */
export class MqttSession {
  readonly clientId: string
  readonly subscriptions = new Map<string, Subscription>()
  /** Packet ids of QoS 2 publishes of the client whose PUBREL has not come. */
  readonly received = new Set<number>()
  readonly #held: Held
  readonly #kept: KeptMessages
  readonly #makeRoom: () => boolean
  readonly #sent = new Map<number, Sent>()
  /** Packet ids that are to be sent again since the client is back. */
  #again: number[] = []
  #waiting: Delivery[] = []
  /** Index of the first that still waits. */
  #head = 0
  #connection: SessionConnection | undefined
  /** Most that may be unacknowledged on this connection, and how many are. */
  #window = 0
  #inFlight = 0
  #lastId = 0
  /** Bytes of the messages that are on their way to it. */
  #queuedBytes = 0
  #isEnded = false

  /**
   * @param held what it takes in memory without its messages; released when it ends
   * @param makeRoom called where there is no memory for a message. It may end sessions, this one too; returns whether
   *   there may be memory now
   * @returns undefined where there is no memory for one more
   */
  static begin(clientId: string, held: Held, kept: KeptMessages, makeRoom: () => boolean): MqttSession | undefined {
    return held.grow(SESSION_BYTES + 2 * clientId.length) ? new MqttSession(clientId, held, kept, makeRoom) : undefined
  }

  private constructor(clientId: string, held: Held, kept: KeptMessages, makeRoom: () => boolean) {
    this.clientId = clientId
    this.#held = held
    this.#kept = kept
    this.#makeRoom = makeRoom
  }

  get isConnected(): boolean {
    return this.#connection !== undefined
  }

  /** What would be free without it, if nobody else waited for the same messages. */
  get heldBytes(): number {
    return this.#held.bytes + this.#queuedBytes
  }

  /**
   * Replaces a subscription to the same filter.
   * @returns false where there is no memory for it
   */
  subscribe(subscription: Subscription): boolean {
    const { filter } = subscription
    if (!this.subscriptions.has(filter) && !this.#held.grow(sizeOf(filter))) return false
    this.subscriptions.set(filter, subscription)
    return true
  }

  /** Returns the subscription that there was. */
  unsubscribe(filter: string): Subscription | undefined {
    const subscription = this.subscriptions.get(filter)
    if (this.subscriptions.delete(filter)) this.#held.shrink(sizeOf(filter))
    return subscription
  }

  /** The client is there: what it did not acknowledge is sent again with DUP, in the old order, then what waits. */
  attach(connection: SessionConnection, receiveMaximum: number): void {
    this.#connection = connection
    this.#window = receiveMaximum
    this.#inFlight = 0
    this.#again = [...this.#sent.keys()]
    this.resume()
  }

  detach(): void {
    this.#connection = undefined
    // QoS 0 is not kept for a client that is away.
    const waiting = this.#waiting.slice(this.#head)
    this.#head = 0
    this.#waiting = waiting.filter((delivery) => delivery.qos > 0)
    for (const delivery of waiting) if (delivery.qos === 0) this.#drop(delivery)
  }

  /** Sends it, or keeps it in order behind what waits. QoS 0 is for a connected client only. */
  deliver(delivery: Delivery): void {
    if (this.#isEnded || (delivery.qos === 0 && this.#connection === undefined)) return
    while (!this.#keep(delivery)) {
      if (!this.#makeRoom() || this.#isEnded) return
    }
    this.#waiting.push(delivery)
    this.resume()
  }

  /** Sends as much as the connection and the client's Receive Maximum let through. */
  resume(): void {
    while (this.#connection?.hasRoom) {
      const id = this.#again[0]
      const delivery = this.#waiting[this.#head]
      if (id !== undefined) {
        if (this.#inFlight >= this.#window) return
        this.#again.shift()
        this.#sendAgain(id, this.#sent.get(id)!)
      } else if (delivery !== undefined) {
        if (delivery.qos > 0 && (this.#inFlight >= this.#window || this.#sent.size >= MAX_PACKET_ID)) return
        this.#takeFirst()
        this.#sendFirst(delivery)
      } else {
        return
      }
    }
  }

  /** PUBACK ends a delivery at QoS 1, PUBCOMP one at QoS 2. */
  acknowledged(id: number): void {
    const sent = this.#sent.get(id)
    if (sent === undefined) return
    this.#sent.delete(id)
    this.#drop(sent)
    if (this.#again.includes(id)) this.#again = this.#again.filter((other) => other !== id)
    else this.#inFlight -= 1
    this.resume()
  }

  /** PUBREC: a refusal ends the delivery. */
  receivedBy(id: number, reasonCode: number): void {
    const sent = this.#sent.get(id)
    if (reasonCode >= FIRST_REFUSAL) return this.acknowledged(id)
    if (sent !== undefined) sent.isReleased = true
    const isKnown = sent !== undefined
    this.#connection?.send({
      cmd: 'pubrel',
      messageId: id,
      reasonCode: isKnown ? SUCCESS : PACKET_IDENTIFIER_NOT_FOUND,
    })
  }

  /** What came by shared subscriptions goes to their other members, from whom the caller has removed this one. */
  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#connection = undefined
    this.#held.release()
    for (const sent of this.#sent.values()) {
      this.#kept.drop(sent.message)
      // At QoS 2 nobody else may get it [MQTT-4.8.2-5].
      if (sent.qos === 1) sent.group?.deliver(sent.message, true)
    }
    for (const { message, group, isRepeated } of this.#waiting.slice(this.#head)) {
      this.#kept.drop(message)
      group?.deliver(message, isRepeated === true)
    }
    this.#sent.clear()
    this.#waiting = []
  }

  #keep({ message }: Delivery): boolean {
    if (!this.#held.grow(DELIVERY_BYTES)) return false
    if (!this.#kept.keep(message)) {
      this.#held.shrink(DELIVERY_BYTES)
      return false
    }
    this.#queuedBytes += message.bytes
    return true
  }

  #drop({ message }: Delivery): void {
    this.#queuedBytes -= message.bytes
    this.#held.shrink(DELIVERY_BYTES)
    this.#kept.drop(message)
  }

  #takeFirst(): void {
    this.#head += 1
    if (this.#head < 1024 && this.#head < this.#waiting.length) return
    this.#waiting = this.#waiting.slice(this.#head)
    this.#head = 0
  }

  #sendFirst(delivery: Delivery): void {
    const { message, qos, isRepeated = false } = delivery
    const messageId = qos > 0 ? this.#nextId() : undefined
    const packet = packetOf(delivery, messageId, qos > 0 && isRepeated)
    // One that is too large for the client counts as delivered [MQTT-3.1.2-25].
    const isSent = !isExpired(message) && this.#connection!.accepts(packet)
    if (isSent) this.#connection!.send(packet)
    if (isSent && messageId !== undefined) {
      this.#sent.set(messageId, { ...delivery, isReleased: false })
      this.#inFlight += 1
    } else {
      this.#drop(delivery)
    }
  }

  #sendAgain(messageId: number, sent: Sent): void {
    this.#inFlight += 1
    if (sent.isReleased) this.#connection!.send({ cmd: 'pubrel', messageId, reasonCode: SUCCESS })
    else this.#connection!.send(packetOf(sent, messageId, true))
  }

  #nextId(): number {
    do this.#lastId = (this.#lastId % MAX_PACKET_ID) + 1
    while (this.#sent.has(this.#lastId))
    return this.#lastId
  }
}

function sizeOf(filter: string): number {
  return SUBSCRIPTION_BYTES + 2 * filter.length
}

function packetOf(
  { message, qos, retain, identifiers }: Delivery,
  messageId: number | undefined,
  dup: boolean,
): IPublishPacket {
  const { topic, payload } = message
  const properties = forwardedProperties(message, identifiers)
  return {
    cmd: 'publish',
    topic,
    payload,
    qos,
    retain,
    dup,
    ...(messageId !== undefined && { messageId }),
    ...(properties !== undefined && { properties }),
  }
}
