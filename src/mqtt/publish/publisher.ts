import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import { BatchAdmission } from './batch-admission.ts'
import type { PublishResult } from './in-flight.ts'
import { PublishQueue, type PublishQueueLimits, type SaysNoSubscribers } from './publish-queue.ts'
import type { Message, QoS } from '../message.ts'

/** How a publish ended, for the metrics. */
export const PUBLISH_OUTCOMES = [
  'acknowledged',
  'no_subscribers',
  'sent',
  'rejected',
  'timeout',
  'unavailable',
  'overloaded',
] as const

export type PublishOutcome = (typeof PUBLISH_OUTCOMES)[number]

export interface PublisherOptions extends PublishQueueLimits {
  connections: number
  /** Options of the connection at an index of the pool. */
  connection: (index: number) => Omit<ConnectionOptions, 'handlers'>
  observe: (message: Message, outcome: PublishOutcome, seconds: number, error?: CausewayError) => void
}

/** Publishes over a pool of connections. A topic always uses the same one, so messages of a topic keep their order. */
export class Publisher {
  readonly #queues: PublishQueue[] = []
  readonly #connections: Connection[] = []
  /** By index of the queue. */
  readonly #batches: BatchAdmission[] = []
  readonly #observe: PublisherOptions['observe']
  readonly #inFlightMax: number

  constructor({ connections, connection, observe, ...limits }: PublisherOptions) {
    this.#observe = observe
    this.#inFlightMax = connections * limits.maxInFlight
    const saysNoSubscribers: SaysNoSubscribers = [false, false, false]
    for (let index = 0; index < connections; index += 1) {
      const options = connection(index)
      const connect = (handlers: ConnectionHandlers): Connection => {
        const created = new Connection({ ...options, handlers })
        this.#connections.push(created)
        return created
      }
      const mixesOrder = (): boolean => options.broker.learnt.order === 'mixed'
      const queue = new PublishQueue(limits, saysNoSubscribers, connect, mixesOrder)
      queue.onSettled = (message, acceptedAt, result, error) =>
        this.#settled(
          message,
          acceptedAt,
          error === undefined ? outcomeOf(message.qos, result!) : failureOf(error),
          error,
        )
      this.#queues.push(queue)
      this.#batches.push(new BatchAdmission(queue))
    }
  }

  /** How many publishes are accepted and not yet answered. */
  get inFlight(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.inFlight, 0)
  }

  /** How many were sent and the broker has not acknowledged, whether their callers have an answer (504) or not. */
  get unacknowledged(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.unacknowledged, 0)
  }

  get inFlightMax(): number {
    return this.#inFlightMax
  }

  /** How many of them are not sent yet. */
  get waiting(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.waiting, 0)
  }

  /** When the oldest of them was accepted, of `performance.now()`; Infinity where there is none. */
  get oldestAt(): number {
    return Math.min(...this.#queues.map((queue) => queue.oldestAt))
  }

  get states(): ConnectionState[] {
    return this.#connections.map(({ state }) => state)
  }

  /** Resolves once every connection is established, or the first attempt at it has failed. */
  async attempted(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.attempted()))
  }

  /**
   * Resolves once the broker has acknowledged at the message's QoS; at QoS 0 once the message is with the socket.
   * @param share holds the message
   * @throws CausewayError with what the broker answered, or that it did not answer
   */
  publish(message: Message, share: MemoryShare): Promise<PublishResult> {
    return this.#publish(message, share, true)
  }

  /** Not async: that would cost two more promises and three turns of the microtask queue for each message. */
  #publish(message: Message, share: MemoryShare, givesWay: boolean): Promise<PublishResult> {
    const startedAt = performance.now()
    try {
      return this.#queues[queueOf(message.topic, this.#queues.length)]!.publish(message, share, startedAt, givesWay)
    } catch (error) {
      this.#settled(message, startedAt, failureOf(error as CausewayError), error as CausewayError)
      return Promise.reject(error as CausewayError)
    }
  }

  #settled(message: Message, startedAt: number, outcome: PublishOutcome, error: CausewayError | undefined): void {
    this.#observe(message, outcome, (performance.now() - startedAt) / 1000, error)
  }

  /**
   * For messages of batches. As `publish`, but waits while the limits are reached, and leaves a part of the room to
   * single publishes. Messages of a topic are sent in the order of the calls; callers that wait take turns.
   */
  async publishWhenRoom(message: Message, share: MemoryShare): Promise<PublishResult> {
    const batches = this.#batches[queueOf(message.topic, this.#queues.length)]!
    try {
      if (batches.tryEnter(message)) return await this.#publish(message, share, false)
      return await new Promise((resolve) => {
        batches.wait(share.name, message, () => resolve(this.#publish(message, share, false)))
      })
    } finally {
      batches.leave()
    }
  }

  /** Disconnects. The caller lets publishes in flight finish first; otherwise they end with their timeout. */
  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }
}

/** FNV-1a over UTF-16 code units. Any hash would do that is the same each time and spreads topics evenly. */
function queueOf(topic: string, queues: number): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < topic.length; index += 1) hash = Math.imul(hash ^ topic.charCodeAt(index), 0x01000193)
  return (hash >>> 0) % queues
}

function outcomeOf(qos: QoS, { matchedSubscribers }: PublishResult): PublishOutcome {
  if (qos === 0) return 'sent'
  return matchedSubscribers === false ? 'no_subscribers' : 'acknowledged'
}

function failureOf(error: CausewayError): PublishOutcome {
  switch (error.kind.code) {
    case 'acknowledgement-timeout':
      return 'timeout'
    case 'broker-unavailable':
    case 'bridge-refused':
    case 'publish-interrupted':
      return 'unavailable'
    case 'overloaded':
      return 'overloaded'
    default:
      return 'rejected'
  }
}
