import { type Message, sizeOf } from '../message.ts'
import type { Receipt } from '../session/unacknowledged.ts'

/** Most packets that are remembered, and most of their bytes. */
const PACKETS_MAX = 2048
const BYTES_MAX = 1_048_576

interface Packet {
  messageId: number
  message: Message
}

/**
 * Recognizes QoS 1 packets that the broker sends again after the connection was lost, as our PUBACK did not reach it.
 *
 * The same packet identifier, topic and payload prove nothing alone: many publishers repeat their payloads, and a
 * broker that takes the lowest free identifier, or begins with 1 on each connection, uses one again at once. They do
 * prove it where the broker counts its identifiers on: then one comes again only after 65,535 others.
 */
export class ReceivedPackets {
  /** Packets of this connection, the oldest first. Those before `#first` are forgotten. */
  #packets: Packet[] = []
  #first = 0
  #bytes = 0
  /** Packets of the connection before, by identifier; forgotten one by one as they come again. */
  #before = new Map<number, Message>()
  /**
   * By topic, the messages of the connection before. Their PUBACKs may not have reached the broker, or it may have
   * forgotten them as it was restarted. Not every broker sets DUP then.
   */
  #mayComeAgain = new Map<string, Message[]>()
  /** The identifier that had certainly been acknowledged before the next packet came. */
  #acknowledged: number | undefined
  /** Whether the broker took a higher identifier although a lower one was free. */
  #countsOn = false
  #isFirst = true
  /** Packets came on the connection before, and the session is the same one. */
  #isResumed = false

  /**
   * The connection was lost, and the next one continues the session.
   * @returns whether any of what comes may have come before: then `settled` is to be called later
   */
  reconnected(): boolean {
    const packets = this.#packets.slice(this.#first)
    this.#isResumed = packets.length > 0
    this.#before = new Map(this.#countsOn ? packets.map(({ messageId, message }) => [messageId, message]) : [])
    this.#noteMayComeAgain(packets)
    this.#restart()
    return this.#isResumed
  }

  /** Nothing comes any more that the broker sent on the connection before. */
  settled(): void {
    this.#mayComeAgain.clear()
  }

  /**
   * Whether the packet shows that the broker counts from 1 on each connection, and does not begin with what it sends
   * again. To be called before `isKnown`.
   */
  countsAnew({ messageId, dup }: Receipt): boolean {
    return this.#isFirst && this.#isResumed && messageId === 1 && !dup
  }

  /** Whether the message equals one of the connection before, each of which counts once. */
  mayComeAgain(message: Message): boolean {
    if (this.#mayComeAgain.size === 0) return false
    const others = this.#mayComeAgain.get(message.topic)
    const at = others?.findIndex((other) => isSame(other, message)) ?? -1
    if (at === -1) return false
    others!.splice(at, 1)
    return true
  }

  /**
   * The session is a new one, as far as the broker says. ActiveMQ says so of a session that it has, and sends again.
   * @returns as `reconnected`
   */
  reset(): boolean {
    this.#isResumed = false
    this.#before.clear()
    this.#noteMayComeAgain(this.#packets.slice(this.#first))
    this.#countsOn = false
    this.#restart()
    return this.#mayComeAgain.size > 0
  }

  /** All packets up to the newest one have certainly been acknowledged. */
  acknowledged(): void {
    this.#acknowledged = this.#packets.at(-1)?.messageId
  }

  /** Whether the broker must show first how it counts. `acknowledged` is to be called after a round trip. */
  get isUnknown(): boolean {
    return !this.#countsOn && this.#acknowledged === undefined
  }

  /**
   * Notes a packet.
   * @returns whether it certainly is one that arrived on the connection before
   */
  isKnown(message: Message, { messageId, dup }: Receipt): boolean {
    // A broker that begins with 1 on each connection gives its first one to a message that may be any.
    if (this.#isFirst && messageId === 1) this.#before.clear()
    this.#isFirst = false
    const before = dup ? this.#before.get(messageId) : undefined
    this.#before.delete(messageId)
    if (!dup && this.#acknowledged !== undefined) {
      this.#countsOn = messageId > this.#acknowledged
      this.#acknowledged = undefined
    }
    this.#remember({ messageId, message })
    return before !== undefined && isSame(before, message)
  }

  #noteMayComeAgain(packets: readonly Packet[]): void {
    this.#mayComeAgain.clear()
    for (const { message } of packets) {
      const others = this.#mayComeAgain.get(message.topic)
      if (others === undefined) this.#mayComeAgain.set(message.topic, [message])
      else others.push(message)
    }
  }

  #remember(packet: Packet): void {
    this.#packets.push(packet)
    this.#bytes += sizeOf(packet.message)
    while (this.#packets.length - this.#first > PACKETS_MAX || this.#bytes > BYTES_MAX) {
      this.#bytes -= sizeOf(this.#packets[this.#first]!.message)
      this.#first += 1
    }
    // Cutting off half of the array at a time costs each packet a constant time on average.
    if (this.#first * 2 < this.#packets.length) return
    this.#packets = this.#packets.slice(this.#first)
    this.#first = 0
  }

  #restart(): void {
    this.#packets = []
    this.#first = 0
    this.#bytes = 0
    this.#acknowledged = undefined
    this.#isFirst = true
  }
}

function isSame(a: Message, b: Message): boolean {
  return (
    a.topic === b.topic && a.payload.equals(b.payload) && JSON.stringify(a.properties) === JSON.stringify(b.properties)
  )
}
