import type { CausewayError } from '../../errors.ts'
import type { NetworkConnection } from '../client/network-connection.ts'
import type { QoS } from '../message.ts'
import { plainFilter } from '../topic.ts'
import { withTimeout } from '../with-timeout.ts'

/** What SUBSCRIBE and UNSUBSCRIBE are sent with. */
export interface SubscribeContext {
  network: NetworkConnection
  /** Called before SUBSCRIBE. Throws where the broker does not support the filter. */
  check(): void
  /** Whether the broker supports subscription identifiers. */
  supportsIdentifiers: boolean
  timeoutMs: number
}

const UNSUBSCRIBE_TRIES = 2
/** A broker that dies may not have saved yet what it granted in so many milliseconds before. */
const UNSAVED_MS = 5000

/** One filter at the broker, and the targets that get its messages. */
export class Subscription<Target> {
  readonly filter: string
  /** The filter that its topics match; for a shared subscription, the part after the group. */
  readonly topics: string
  /** The broker sends it back with each message of the subscription, where it supports that. */
  readonly identifier: number
  /** Counts on: an older subscription has a lower one. */
  readonly age: number
  readonly targets = new Set<Target>()
  /** The highest QoS that a target asked for. */
  qos: QoS = 0
  /** A message arrived at QoS 0. No broker keeps such messages while the connection is lost. */
  hasReceivedQoS0 = false
  /** The QoS that the broker was last asked for, and granted. */
  #askedQoS: QoS | undefined
  #grantedQoS: QoS | undefined
  /** When it was granted, in milliseconds of `performance.now()`. */
  #grantedAt = -Infinity
  #mayBeUnsaved = false
  /** SUBSCRIBE was sent, and nothing has undone it since. */
  #mayBeAtBroker = false
  /** How many connections were lost while UNSUBSCRIBE waited for its answer. */
  #lostWhileUnsubscribing = 0
  #lastSync: Promise<void> = Promise.resolve()

  constructor(filter: string, identifier: number, age: number) {
    this.filter = filter
    this.topics = plainFilter(filter)
    this.identifier = identifier
    this.age = age
  }

  /** Whether each message is for only one of the targets. */
  get isShared(): boolean {
    return this.topics !== this.filter
  }

  /** The QoS that the broker granted, if it has the subscription now. */
  get grantedQoS(): QoS | undefined {
    return this.#grantedQoS
  }

  /** Whether messages are lost while the connection is, even if the broker keeps the session. */
  get mayLoseMessages(): boolean {
    return this.#grantedQoS === 0 || this.hasReceivedQoS0
  }

  /** It has no target, and the broker does not have it. */
  get isRemoved(): boolean {
    return this.targets.size === 0 && !this.#mayBeAtBroker
  }

  /** Notes that the broker does not have it any more: it lost the session, or it answered UNSUBSCRIBE. */
  markGone(): void {
    this.#askedQoS = undefined
    this.#grantedQoS = undefined
    this.#mayBeAtBroker = false
  }

  /** To be called when the connection is lost. */
  connectionLost(): void {
    if (performance.now() - this.#grantedAt < UNSAVED_MS) this.#mayBeUnsaved = true
  }

  /**
   * The broker granted it just before a loss, so it may not have it any more though it kept the session: RabbitMQ 4.0,
   * killed, was seen to do so. The stream would stay silent.
   */
  get mayBeUnsaved(): boolean {
    return this.#mayBeUnsaved
  }

  /** Makes the next `sync` subscribe again, if there still is a target. */
  askAgain(): void {
    this.#askedQoS = undefined
  }

  /**
   * Subscribes or unsubscribes at the broker, as the targets require. Calls run one after the other.
   * @param context called when it is this call's turn, if a packet has to be sent
   * @throws CausewayError if that fails; a later call tries again
   */
  sync(context: () => SubscribeContext): Promise<void> {
    const sync = this.#lastSync.catch(() => {}).then(() => this.#syncNow(context))
    this.#lastSync = sync
    return sync
  }

  async #syncNow(context: () => SubscribeContext): Promise<void> {
    if (this.targets.size === 0) {
      if (!this.#mayBeAtBroker) return
      const { network, timeoutMs } = context()
      // A target that is added before UNSUBACK must subscribe again, so nothing counts as granted from now on.
      this.#askedQoS = undefined
      this.#grantedQoS = undefined
      try {
        await withTimeout(network.unsubscribe(this.filter), timeoutMs)
      } catch (error) {
        // A broker that closes the connection because of this filter would do so at every try, so give up after two.
        if ((error as CausewayError).kind.code === 'broker-unavailable') this.#lostWhileUnsubscribing += 1
        if (this.#lostWhileUnsubscribing < UNSUBSCRIBE_TRIES) throw error
      }
      this.markGone()
    } else if (this.#askedQoS === undefined || this.#askedQoS < this.qos) {
      const { network, check, supportsIdentifiers, timeoutMs } = context()
      check()
      const { qos } = this
      const identifier = supportsIdentifiers ? this.identifier : undefined
      this.#mayBeAtBroker = true
      this.#grantedQoS = await withTimeout(
        network.subscribe(this.filter, qos, { identifier, retained: 'never' }),
        timeoutMs,
      )
      this.#askedQoS = qos
      this.#grantedAt = performance.now()
      this.#mayBeUnsaved = false
    }
  }
}
