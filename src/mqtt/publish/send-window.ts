import { CausewayError } from '../../errors.ts'
import { type Capabilities, checkPublish } from '../capabilities.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { packetSize } from '../client/packets.ts'
import type { AnswerTime } from './answer-time.ts'
import type { InFlight } from './in-flight.ts'
import type { SentPublishes } from './sent-publishes.ts'
import { WaitingPublishes } from './waiting-publishes.ts'

/**
 * Sends publishes for the first time, those of each caller in order. At QoS 1 and 2, only so many may be sent and not
 * acknowledged.
 */
export class SendWindow {
  readonly #sent: SentPublishes
  readonly waiting = new WaitingPublishes()
  /** At QoS 0, written in this turn of the event loop and not yet with the socket. */
  #written: InFlight[] = []
  /** At QoS 0, answered but still in the buffer of a socket that takes no more. */
  #buffered: InFlight[] = []
  readonly #answerTime: AnswerTime

  constructor(sent: SentPublishes, answerTime: AnswerTime) {
    this.#sent = sent
    this.#answerTime = answerTime
  }

  /**
   * Sends a new publish at once, without the detour over `waiting`, where nothing waits and the window and the socket
   * have room for it.
   * @returns whether it was sent, or refused because the broker does not allow it. Otherwise it has to wait
   */
  trySend(
    publish: InFlight,
    network: NetworkConnection,
    capabilities: Capabilities,
    windowSize: number,
    now: number,
  ): boolean {
    if (this.waiting.count > 0 || !network.writable) return false
    if (publish.message.qos > 0) {
      if (this.#sent.size >= windowSize || now + this.#answerTime.expectedMs(now) > publish.deadline) return false
    }
    this.#sendOne(publish, network, capabilities, now)
    return true
  }

  /** Sends what waits, as far as the window has room and the socket takes it. */
  send(network: NetworkConnection, capabilities: Capabilities, windowSize: number, now: number): void {
    const { waiting } = this
    if (waiting.count === 0) return
    const expectedMs = this.#answerTime.expectedMs(now)
    for (let publish = waiting.next; publish !== undefined && network.writable; publish = waiting.next) {
      if (publish.message.qos > 0 && !publish.isSettled) {
        // Where no caller waits for an acknowledgement, it is sent all the same: only the next acknowledgement can say
        // that the broker is faster now.
        if (expectedMs > 0 && this.#sent.awaited > 0 && now + expectedMs > publish.deadline) {
          waiting.take()
          publish.fail(tooLate(expectedMs))
          continue
        }
        if (this.#sent.size >= windowSize) return
      }
      waiting.take()
      if (!publish.isSettled) this.#sendOne(publish, network, capabilities, now)
    }
  }

  /**
   * Everything written is with the socket, which is all that QoS 0 promises.
   * @param isFull the socket buffers what it was given, and takes no more until `drained`
   */
  flushed(isFull: boolean): void {
    if (this.#written.length === 0) return
    for (const publish of this.#written.splice(0)) {
      if (isFull) {
        publish.retain()
        this.#buffered.push(publish)
      }
      publish.succeed(undefined, false)
    }
  }

  /** The socket has sent all that was in its buffer. */
  drained(): void {
    for (const publish of this.#buffered.splice(0)) publish.release()
  }

  /** QoS 0 messages that did not reach the socket are sent on the next connection, before all that waits. */
  connectionLost(): void {
    this.drained()
    for (const publish of this.#written.splice(0).reverse()) this.waiting.putBack(publish)
  }

  failWaiting(error: CausewayError): void {
    for (const publish of this.waiting.removeAll()) publish.fail(error)
  }

  #sendOne(publish: InFlight, network: NetworkConnection, capabilities: Capabilities, now: number): void {
    const { message } = publish
    try {
      checkPublish(message, capabilities, () => packetSize(message))
    } catch (error) {
      return publish.fail(error as CausewayError)
    }
    if (message.qos === 0) {
      this.#written.push(publish)
      return network.publish(message, 0, false)
    }
    this.#sent.add(publish)
    publish.send(network, now)
  }
}

function tooLate(expectedMs: number): CausewayError {
  return new CausewayError(
    'overloaded',
    `The broker takes up to ${Math.ceil(expectedMs)} ms to acknowledge, and the message had waited too long for ` +
      'that; it was not sent',
    { outcome: 'not-sent', retryAfter: Math.max(1, Math.ceil(expectedMs / 1000)) },
  )
}
