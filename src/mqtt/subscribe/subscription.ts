import type { CausewayError } from '../../errors.ts'
import { withTimeout } from '../with-timeout.ts'
import type { QoS } from '../message.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import { plainFilter } from '../topic.ts'

export interface Broker {
  network: NetworkConnection
  /** Whether it takes subscription identifiers. */
  identifiers: boolean
  timeoutMs: number
}

const UNSUBSCRIBE_TRIES = 2

/** One filter at the broker, and whom its messages are for. */
export class Subscription<Target> {
  readonly filter: string
  /** The filter its topics match: without the group, where it is shared. */
  readonly topics: string
  readonly identifier: number
  readonly targets = new Set<Target>()
  /** The highest asked for. */
  qos: QoS = 0
  /** A message came at QoS 0, which no broker keeps while we are away. */
  sawQoS0 = false
  #asked: QoS | undefined
  #granted: QoS | undefined
  /** A SUBSCRIBE was written and nothing undid it since. */
  #maybeAtBroker = false
  /** Connections lost while the broker was to unsubscribe it. */
  #lostOver = 0
  #work: Promise<void> = Promise.resolve()

  constructor(filter: string, identifier: number) {
    this.filter = filter
    this.topics = plainFilter(filter)
    this.identifier = identifier
  }

  /** Whether each message is for one of its targets only. */
  get isShared(): boolean {
    return this.topics !== this.filter
  }

  /** Whether messages are lost while the connection is, even where the broker keeps the session. */
  get mayLoseMessages(): boolean {
    return this.#granted === 0 || this.sawQoS0
  }

  /** Nobody wants it and the broker does not have it. */
  get isOver(): boolean {
    return this.targets.size === 0 && !this.#maybeAtBroker
  }

  /** The broker has lost the session. */
  forgotten(): void {
    this.#asked = undefined
    this.#granted = undefined
    this.#maybeAtBroker = false
  }

  /**
   * Brings the broker to what is wanted, one packet at a time; `broker` is asked when the turn comes.
   * @throws CausewayError where that fails; a later call tries again
   */
  sync(broker: () => Broker): Promise<void> {
    const work = this.#work.catch(() => {}).then(() => this.#step(broker))
    this.#work = work
    return work
  }

  async #step(broker: () => Broker): Promise<void> {
    if (this.targets.size === 0) {
      if (!this.#maybeAtBroker) return
      const { network, timeoutMs } = broker()
      // Whoever wants it again before the answer cannot count on what was granted.
      this.#asked = undefined
      this.#granted = undefined
      try {
        await withTimeout(network.unsubscribe(this.filter), timeoutMs)
      } catch (error) {
        // A broker that closes the connection over the filter would do so each time.
        if ((error as CausewayError).kind.code === 'broker-unavailable') this.#lostOver += 1
        if (this.#lostOver < UNSUBSCRIBE_TRIES) throw error
      }
      this.forgotten()
    } else if (this.#asked === undefined || this.#asked < this.qos) {
      const { network, identifiers, timeoutMs } = broker()
      const { qos } = this
      this.#maybeAtBroker = true
      this.#granted = await withTimeout(
        network.subscribe(this.filter, qos, {
          identifier: identifiers ? this.identifier : undefined,
          retained: 'never',
        }),
        timeoutMs,
      )
      this.#asked = qos
    }
  }
}
