import { type LoggedEvent, Window, type WindowOptions } from './window.ts'

/** What the intake needs of the session at the broker. */
export interface IntakeBroker<Message> {
  /** Acknowledges a message. */
  done(message: Message): void
  /** Leaves a message unacknowledged: the broker sends it again over the next connection. */
  abandon(message: Message): void
  /**
   * Takes no more messages from the broker until `resume`, or until the connection is lost.
   * @returns false where that cannot be
   */
  hold(): boolean
  resume(): void
  /** Reconnects, so that abandoned messages come again. */
  renew(): Promise<void>
}

export interface IntakeOptions<Message, Event extends LoggedEvent = LoggedEvent> extends WindowOptions<Message> {
  broker: IntakeBroker<Message>
  /** A message is within the window: it goes to the reader. */
  deliver(message: Message): Event
  /** So many messages are lost: there was no room for them, and at QoS 0 the broker does not send them again. */
  lost(count: number): void
}

/**
 * How long nothing is taken from the broker while the reader acknowledges nothing. Brokers close a connection on which
 * nothing can be sent, EMQX after 15 seconds. In two steps: in a process that was frozen, the first one is over before
 * any acknowledgement could be read.
 */
const HOLD_STEP_MS = 2500
const HOLD_STEPS = 2

/**
 * The messages of a session on their way to its reader: a window of those that it may have unacknowledged, and behind
 * it those that wait, bounded. Beyond that nothing is taken from the broker while the reader acknowledges some now and
 * then. A reader that does not would hold up the connection, so what comes then is left to the broker, which sends it
 * again on a new connection once the reader has acknowledged enough. That costs: Mosquitto sends again all that it has
 * sent before, up to 65,535 messages.
 */
export class Intake<Message extends { qos: 0 | 1 | 2 }, Event extends LoggedEvent = LoggedEvent> {
  readonly #broker: IntakeBroker<Message>
  readonly #lost: (count: number) => void
  readonly #window: Window<Message, Event>
  /** More came than there is room for: messages are left to the broker until the reader has acknowledged enough. */
  #isOverflowing = false
  /** While nothing is taken from the broker, until the reader has acknowledged nothing for so many steps. */
  #holding: NodeJS.Timeout | undefined
  #holdStepsLeft = HOLD_STEPS

  constructor({ broker, deliver, lost, ...options }: IntakeOptions<Message, Event>) {
    this.#broker = broker
    this.#lost = lost
    this.#window = new Window(options, deliver)
  }

  /** Messages that may be with the reader unacknowledged. */
  get unacknowledged(): number {
    return this.#window.size
  }

  /** Messages that wait for room in the window. */
  get waiting(): number {
    return this.#window.waiting
  }

  /** Log position of the oldest unacknowledged message. */
  get oldestPosition(): number | undefined {
    return this.#window.oldestPosition
  }

  /** From the broker. */
  message(message: Message): void {
    if (this.#isOverflowing) return this.#leaveToBroker([message])
    this.#window.push(message)
    if (!this.#window.isOverfull) return
    if (this.#window.isOverShare || !this.#broker.hold()) return this.#overflow()
    this.#holding ??= setInterval(() => this.#stillHolding(), HOLD_STEP_MS)
  }

  #stillHolding(): void {
    this.#holdStepsLeft -= 1
    if (this.#holdStepsLeft > 0) return
    this.#overflow()
    this.#broker.resume()
  }

  /**
   * Acknowledges the oldest unacknowledged messages for as long as `isAcknowledged` says so.
   * @returns how many
   */
  acknowledgeWhile(isAcknowledged: (event: Event) => boolean): number {
    const messages = this.#window.acknowledgeWhile(isAcknowledged)
    for (const message of messages) {
      this.#broker.done(message)
      if (!this.#isOverflowing || !this.#window.isHalfEmpty) continue
      this.#isOverflowing = false
      void this.#broker.renew()
    }
    if (this.#holding !== undefined && messages.length > 0) {
      this.#holdStepsLeft = HOLD_STEPS
      if (!this.#window.isOverfull) this.#resume()
    }
    return messages.length
  }

  /** The connection is closed: what waits comes again on the next one. */
  disconnected(): void {
    this.#isOverflowing = false
    this.#stopHolding()
    for (const message of this.#window.dropWaiting()) this.#broker.abandon(message)
  }

  /** Gives its memory back. Nothing may come after that. */
  release(): void {
    this.#stopHolding()
    this.#window.release()
  }

  #resume(): void {
    this.#stopHolding()
    this.#broker.resume()
  }

  #stopHolding(): void {
    clearInterval(this.#holding)
    this.#holding = undefined
    this.#holdStepsLeft = HOLD_STEPS
  }

  #overflow(): void {
    this.#stopHolding()
    this.#isOverflowing = true
    // A large backlog comes again as a whole each time, so as much of it is kept as there is room for.
    this.#leaveToBroker(this.#window.dropExcess())
  }

  #leaveToBroker(messages: Message[]): void {
    for (const message of messages.reverse()) this.#broker.abandon(message)
    const lost = messages.filter(({ qos }) => qos === 0).length
    if (lost > 0) this.#lost(lost)
  }
}
