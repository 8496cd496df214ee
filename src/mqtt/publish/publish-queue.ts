import { CausewayError } from '../../errors.ts'
import { type Capabilities, checkPublish } from '../capabilities.ts'
import type { ConnectionHandlers } from '../connection.ts'
import { InFlight, type InFlightHooks, type PublishResult } from './in-flight.ts'
import type { Message } from '../message.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { type Acknowledgement, packetSize } from '../client/packets.ts'
import { FIRST_REFUSAL, PACKET_IDENTIFIER_NOT_FOUND, reasonName, refusal } from '../reason-codes.ts'
import { SentPublishes } from './sent-publishes.ts'

export interface PublishQueueLimits {
  /** Publishes accepted and not yet answered. */
  maxInFlight: number
  /** The same in bytes of payload. */
  maxInFlightBytes: number
  timeoutMs: number
}

/**
 * Unacknowledged publishes where the broker sets no limit (3.1.1): Mosquitto handles 20, and loses QoS 2 messages
 * beyond them, acknowledged ones, when the connection is lost. Also how many are sent again one at a time after a loss:
 * alone on the wire, the one message the broker closes the connection over takes no other down with it.
 */
const CAUTIOUS = 20

/**
 * The publishes of one connection, in order: those waiting, those on the wire, and those to be sent again after a
 * loss. It never has more on the wire than the broker's Receive Maximum, and sends nothing more than twice.
 */
export class PublishQueue implements ConnectionHandlers {
  readonly #limits: PublishQueueLimits
  readonly #hooks: InFlightHooks = {
    settled: (entry) => this.#settled(entry),
    timedOut: (entry) => this.#timedOut(entry),
  }
  /** Accepted, not sent. */
  #waiting: InFlight[] = []
  /** QoS 0, not written before the end of this turn of the loop. */
  #leaving: InFlight[] = []
  /** Timed out ones too, so that their identifiers are not used again. */
  readonly #sent = new SentPublishes()
  /** Sent on an earlier network connection only, in order. */
  #again: InFlight[] = []
  /**
   * QoS 2 messages of an earlier network connection that nobody waits for any more. The broker may hold such a message
   * still, and would take the next one of its identifier for a copy of it: PUBREL ends that, without publishing anew.
   */
  #unclaimed: InFlight[] = []
  /** Sent again and not yet answered. */
  readonly #probes = new Set<InFlight>()
  #probed = 0
  #count = 0
  readonly #waiters: (() => void)[] = []
  #bytes = 0
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined

  constructor(limits: PublishQueueLimits) {
    this.#limits = limits
  }

  /** Accepted and not yet answered. */
  get inFlight(): number {
    return this.#count
  }

  /** Whether `publish` would take this message, or refuse it for another reason than its limits. */
  hasRoom({ payload }: Message): boolean {
    const { maxInFlight, maxInFlightBytes } = this.#limits
    if (this.#unavailable !== undefined || this.#count === 0) return true
    return this.#count < maxInFlight && this.#bytes + payload.length <= maxInFlightBytes
  }

  /** Resolves when the next publish is answered. */
  freed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  /** @throws CausewayError at once where the broker is away or the limits are reached, later with the broker's answer */
  publish(message: Message): Promise<PublishResult> {
    if (this.#unavailable !== undefined) throw this.#unavailable
    if (!this.hasRoom(message)) {
      throw new CausewayError(
        'overloaded',
        `${this.#count} messages already wait for the broker's answer; this one was not sent`,
        { outcome: 'not-sent', retryAfter: 1 },
      )
    }
    const entry = new InFlight(message, this.#limits.timeoutMs, this.#hooks)
    this.#count += 1
    this.#bytes += message.payload.length
    this.#waiting.push(entry)
    this.#pump()
    return entry.result
  }

  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    this.#network = network
    this.#capabilities = capabilities
    this.#unavailable = undefined
    this.#probed = 0
    for (const entry of this.#again) {
      // Without its session the broker cannot tell a second QoS 2 message from the first.
      if (entry.message.qos === 2 && !sessionPresent) {
        this.#interrupt(entry, 'the broker lost its session while the message was in flight')
      }
    }
    this.#pump()
  }

  lost(): void {
    this.#network = undefined
    this.#probes.clear()
    this.#unclaimed = []
    this.#waiting.unshift(...this.#leaving.splice(0))
    for (const entry of this.#sent.list()) {
      // What nobody waits for is tried once more than the rest, to free its identifier at the broker.
      if (entry.sent > 2) this.#sent.delete(entry)
      else if (entry.sent > 1) {
        entry.interrupt(
          'the connection was lost twice while the message was in flight; the broker may refuse it that way',
        )
      }
    }
    this.#again = this.#sent.list()
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
    const waiting = this.#waiting
    this.#waiting = []
    for (const entry of waiting) entry.fail(error)
  }

  flushed(): void {
    for (const entry of this.#leaving.splice(0)) entry.succeed(undefined)
  }

  drained(): void {
    this.#pump()
  }

  acknowledged({ cmd, messageId, reasonCode, properties }: Acknowledgement): void {
    const entry = this.#sent.get(messageId)
    if (entry === undefined || (cmd === 'puback') !== (entry.message.qos === 1)) return
    const code = this.#capabilities!.protocol === 5 ? (reasonCode ?? 0) : undefined
    if (cmd === 'pubrec' && (code ?? 0) < FIRST_REFUSAL) {
      entry.receivedCode = code
      return this.#release(entry, this.#network!)
    }
    if (cmd === 'pubcomp' && entry.releases === 0) return
    // To a PUBREL sent again, "not found" says that the first one was obeyed.
    const completed =
      cmd === 'pubcomp' &&
      (code === undefined || code < FIRST_REFUSAL || (code === PACKET_IDENTIFIER_NOT_FOUND && entry.releases > 1))
    if (cmd === 'pubcomp' && !completed) this.#interrupt(entry, `the broker answered PUBREL with: ${reasonName(code!)}`)
    else this.#finish(entry, completed ? entry.receivedCode : code, properties?.reasonString)
    this.#pump()
  }

  #finish(entry: InFlight, code: number | undefined, reasonString: string | undefined): void {
    this.#sent.delete(entry)
    if (this.#probes.delete(entry)) this.#probed += 1
    if (code !== undefined && code >= FIRST_REFUSAL) {
      entry.fail(refusal(code, `The broker refused the message for ${entry.message.topic}`, reasonString))
    } else entry.succeed(code)
  }

  #interrupt(entry: InFlight, why: string): void {
    this.#sent.delete(entry)
    this.#probes.delete(entry)
    entry.interrupt(why)
  }

  #pump(): void {
    const network = this.#network
    if (network === undefined) return
    const allowance = this.#probed < CAUTIOUS ? 1 : Math.min(this.#probed - CAUTIOUS + 2, this.#window())
    while (this.#again.length > 0 && this.#probes.size < allowance && network.writable) {
      const entry = this.#again.shift()!
      if (this.#sent.get(entry.id) !== entry) continue
      if (!entry.settled) this.#sendAgain(entry, network)
      else this.#disown(entry)
    }
    // New messages wait for all of them: order per topic holds, and none gets between a culprit and its discovery.
    if (this.#again.length > 0 || this.#probes.size > 0) return
    for (const entry of this.#unclaimed.splice(0)) {
      entry.sent += 1
      this.#release(entry, network)
    }
    while (this.#waiting.length > 0 && network.writable) {
      const entry = this.#waiting[0]!
      if (entry.message.qos > 0 && !entry.settled && this.#sent.size >= this.#window()) return
      this.#waiting.shift()
      if (!entry.settled) this.#send(entry, network)
    }
  }

  #send(entry: InFlight, network: NetworkConnection): void {
    const { message } = entry
    try {
      checkPublish(message, this.#capabilities!, () => packetSize(message))
    } catch (error) {
      return entry.fail(error as CausewayError)
    }
    if (message.qos === 0) {
      this.#leaving.push(entry)
      return network.publish(message, 0, false)
    }
    entry.sent = 1
    this.#sent.add(entry)
    network.publish(message, entry.id, false)
  }

  #sendAgain(entry: InFlight, network: NetworkConnection): void {
    if (entry.releases === 0) {
      try {
        checkPublish(entry.message, this.#capabilities!, () => packetSize(entry.message))
      } catch (error) {
        entry.interrupt(`the broker came back with other limits. ${(error as CausewayError).message}`)
        return this.#disown(entry)
      }
    }
    entry.sent += 1
    this.#probes.add(entry)
    if (entry.releases > 0) this.#release(entry, network)
    else network.publish(entry.message, entry.id, true)
  }

  /** Of what nobody waits for, before it is sent again. */
  #disown(entry: InFlight): void {
    if (entry.message.qos === 2) this.#unclaimed.push(entry)
    else this.#sent.delete(entry)
  }

  #release(entry: InFlight, network: NetworkConnection): void {
    entry.releases += 1
    network.release(entry.id)
  }

  #window(): number {
    return Math.min(this.#capabilities!.receiveMaximum ?? CAUTIOUS, this.#limits.maxInFlight)
  }

  #settled({ message }: InFlight): void {
    this.#count -= 1
    this.#bytes -= message.payload.length
    for (const resolve of this.#waiters.splice(0)) resolve()
  }

  #timedOut(entry: InFlight): void {
    // The first to come is the first to time out, so this looks no further than the beginning.
    const index = entry.sent === 0 ? this.#waiting.indexOf(entry) : -1
    if (index >= 0) this.#waiting.splice(index, 1)
    this.#probes.delete(entry)
    if (this.#isStuck()) this.#network!.destroy()
    else this.#pump()
  }

  /** Whether messages nobody waits for any more take up the whole window: the broker answers nothing. */
  #isStuck(): boolean {
    if (this.#network === undefined || this.#sent.size < this.#window()) return false
    return this.#sent.list().every(({ settled }) => settled)
  }
}
