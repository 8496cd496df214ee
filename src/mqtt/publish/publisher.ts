import { CausewayError } from '../../errors.ts'
import type { MemoryShare } from '../../memory/account.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import type { PublishResult } from './in-flight.ts'
import { PublishQueue, type PublishQueueLimits } from './publish-queue.ts'
import { type Message, type QoS, sizeOf } from '../message.ts'

/** How a publish ended, for the metrics. */
export type PublishOutcome =
  | 'acknowledged'
  | 'no_subscribers'
  | 'sent'
  | 'rejected'
  | 'timeout'
  | 'unavailable'
  | 'overloaded'

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
  /** By index of the queue: settles when the last publish that waits for room has got it; undefined if none waits. */
  readonly #lastAdmission: (Promise<void> | undefined)[] = []
  readonly #observe: PublisherOptions['observe']

  constructor({ connections, connection, observe, ...limits }: PublisherOptions) {
    this.#observe = observe
    for (let index = 0; index < connections; index += 1) {
      const queue = new PublishQueue(limits, (handlers) => {
        const created = new Connection({ ...connection(index), handlers })
        this.#connections.push(created)
        return created
      })
      this.#queues.push(queue)
    }
  }

  /** How many publishes are accepted and not yet answered. */
  get inFlight(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.inFlight, 0)
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
   * @throws CausewayError with what the broker answered, or that it did not answer
   */
  async publish(message: Message, share: MemoryShare): Promise<PublishResult> {
    const startedAt = performance.now()
    const bytes = sizeOf(message)
    let isTaken = false
    try {
      isTaken = share.take('publishes', bytes)
      if (!isTaken) throw memoryIsShort()
      const result = await this.#queues[queueOf(message.topic, this.#queues.length)]!.publish(message)
      this.#observe(message, outcomeOf(message.qos, result), (performance.now() - startedAt) / 1000)
      return result
    } catch (error) {
      this.#observe(
        message,
        failureOf(error as CausewayError),
        (performance.now() - startedAt) / 1000,
        error as CausewayError,
      )
      throw error
    } finally {
      if (isTaken) share.give('publishes', bytes)
    }
  }

  /** As `publish`, but waits while the limits are reached. Messages of a topic are sent in the order of the calls. */
  async publishWhenRoom(message: Message, share: MemoryShare): Promise<PublishResult> {
    const index = queueOf(message.topic, this.#queues.length)
    const queue = this.#queues[index]!
    const before = this.#lastAdmission[index]
    if (before === undefined && queue.hasRoom(message)) return this.publish(message, share)
    let result!: Promise<PublishResult>
    const admitted = Promise.resolve(before).then(async () => {
      while (!queue.hasRoom(message)) await queue.freed()
      result = this.publish(message, share)
      // The caller gets the error below. Without this, Node would report a rejection that nobody handles yet.
      result.catch(() => {})
    })
    this.#lastAdmission[index] = admitted
    await admitted
    if (this.#lastAdmission[index] === admitted) this.#lastAdmission[index] = undefined
    return result
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

function memoryIsShort(): CausewayError {
  return new CausewayError(
    'overloaded',
    'This caller already has as much memory as CAUSEWAY_MEMORY_BYTES leaves it; the message was not sent',
    { outcome: 'not-sent', retryAfter: 1 },
  )
}
