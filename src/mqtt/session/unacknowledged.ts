import type { Message } from '../message.ts'

/** How the broker knows a QoS 1 message that it waits for an acknowledgement of. */
export interface Receipt {
  messageId: number
  /** The broker sent it before. */
  dup: boolean
}

interface Entry {
  message: Message
  messageId: number
  /** It came on the connection there is now. */
  isCurrent: boolean
  isDone: boolean
}

/**
 * What came at QoS 1 and is not acknowledged to the broker, in order of arrival, across the connections of one session.
 * A broker cannot use a packet id for another message before it has the acknowledgement, and sends the message again
 * under the same one. Once PUBACK is written it can, whether we know that it arrived or not: then nothing is remembered.
 */
export class Unacknowledged {
  readonly #acknowledge: (messageId: number) => void
  readonly #byMessage = new Map<Message, Entry>()
  readonly #byMessageId = new Map<number, Entry>()
  /** Those of this connection: their PUBACKs leave in this order [MQTT-4.6.0-2]. */
  #arrived: Entry[] = []
  #mayComeAgain = false

  /** @param acknowledge writes PUBACK to the connection there is */
  constructor(acknowledge: (messageId: number) => void) {
    this.#acknowledge = acknowledge
  }

  get size(): number {
    return this.#byMessage.size
  }

  /** Whether the message is to be handed on, rather than being on its way since an earlier connection. */
  receive(message: Message, { messageId, dup }: Receipt): boolean {
    const known = this.#byMessageId.get(messageId)
    if (known !== undefined && !known.isCurrent && isSame(known.message, message)) {
      known.isCurrent = true
      this.#arrived.push(known)
      this.#release()
      return false
    }
    if (known !== undefined) this.abandon(known.message)
    if (!dup && this.#mayComeAgain) this.#forgetDone()
    const entry = { message, messageId, isCurrent: true, isDone: false }
    this.#byMessage.set(message, entry)
    this.#byMessageId.set(messageId, entry)
    this.#arrived.push(entry)
    return true
  }

  /** Done with it: PUBACK leaves once all that came before is done with too, on this connection or the next. */
  done(message: Message): void {
    const entry = this.#byMessage.get(message)
    if (entry === undefined) return
    entry.isDone = true
    if (entry.isCurrent) this.#release()
  }

  /** No reader gets it before it comes again, over the next connection. */
  abandon(message: Message): void {
    const entry = this.#byMessage.get(message)
    if (entry === undefined) return
    this.#forget(entry)
    // What is abandoned came last.
    const index = this.#arrived.lastIndexOf(entry)
    if (index >= 0) this.#arrived.splice(index, 1)
  }

  connectionLost(): void {
    for (const entry of this.#arrived) entry.isCurrent = false
    this.#arrived = []
    this.#mayComeAgain = true
  }

  /** The broker has none of it any more. */
  sessionLost(): void {
    this.#arrived = []
    this.#byMessage.clear()
    this.#byMessageId.clear()
  }

  #release(): void {
    let released = 0
    for (const entry of this.#arrived) {
      if (!entry.isDone) break
      released += 1
      this.#acknowledge(entry.messageId)
      this.#forget(entry)
    }
    if (released > 0) this.#arrived.splice(0, released)
  }

  /** What comes again comes before what is new: the broker has no use for acknowledgements of the rest. */
  #forgetDone(): void {
    this.#mayComeAgain = false
    for (const entry of this.#byMessageId.values()) if (entry.isDone && !entry.isCurrent) this.#forget(entry)
  }

  #forget(entry: Entry): void {
    this.#byMessage.delete(entry.message)
    if (this.#byMessageId.get(entry.messageId) === entry) this.#byMessageId.delete(entry.messageId)
  }
}

function isSame(a: Message, b: Message): boolean {
  return a.topic === b.topic && a.payload.equals(b.payload)
}
