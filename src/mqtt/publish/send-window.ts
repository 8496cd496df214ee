import type { CausewayError } from '../../errors.ts'
import { type Capabilities, checkPublish } from '../capabilities.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { packetSize } from '../client/packets.ts'
import type { InFlight } from './in-flight.ts'
import type { SentPublishes } from './sent-publishes.ts'

/** Sends publishes for the first time, in order. At QoS 1 and 2, only so many may be sent and not acknowledged. */
export class SendWindow {
  readonly #sent: SentPublishes
  #waiting: InFlight[] = []
  /** At QoS 0, written in this turn of the event loop and not yet with the socket. */
  #written: InFlight[] = []

  constructor(sent: SentPublishes) {
    this.#sent = sent
  }

  add(publish: InFlight): void {
    this.#waiting.push(publish)
  }

  /** Sends what waits, as far as the window has room and the socket takes it. */
  send(network: NetworkConnection, capabilities: Capabilities, windowSize: number): void {
    while (this.#waiting.length > 0 && network.writable) {
      const publish = this.#waiting[0]!
      if (publish.message.qos > 0 && !publish.isSettled && this.#sent.size >= windowSize) return
      this.#waiting.shift()
      if (!publish.isSettled) this.#sendOne(publish, network, capabilities)
    }
  }

  /** Everything written is with the socket, which is all that QoS 0 promises. */
  flushed(): void {
    if (this.#written.length === 0) return
    for (const publish of this.#written.splice(0)) publish.succeed(undefined)
  }

  /** QoS 0 messages that did not reach the socket are sent on the next connection, before all that waits. */
  connectionLost(): void {
    this.#waiting.unshift(...this.#written.splice(0))
  }

  failWaiting(error: CausewayError): void {
    for (const publish of this.#waiting.splice(0)) publish.fail(error)
  }

  remove(publish: InFlight): void {
    // Publishes time out in the order in which they were accepted, so the search ends at the beginning of the array.
    const index = this.#waiting.indexOf(publish)
    if (index >= 0) this.#waiting.splice(index, 1)
  }

  #sendOne(publish: InFlight, network: NetworkConnection, capabilities: Capabilities): void {
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
    publish.send(network)
  }
}
