import type { CausewayError } from '../../errors.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from '../connection.ts'
import type { PublishResult } from './in-flight.ts'
import { PublishQueue, type PublishQueueLimits } from './publish-queue.ts'
import type { Message, QoS } from '../message.ts'

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

/** Publishes over a pool of connections. A topic always takes the same one, so messages of a topic keep their order. */
export class Publisher {
  readonly #queues: PublishQueue[] = []
  readonly #connections: Connection[] = []
  /** By queue, the last of those that wait for room. */
  readonly #admissions: (Promise<void> | undefined)[] = []
  readonly #observe: PublisherOptions['observe']

  constructor({ connections, connection, observe, ...limits }: PublisherOptions) {
    this.#observe = observe
    for (let index = 0; index < connections; index += 1) {
      const queue = new PublishQueue(limits)
      this.#queues.push(queue)
      this.#connections.push(new Connection({ ...connection(index), handlers: queue }))
    }
  }

  get inFlight(): number {
    return this.#queues.reduce((sum, queue) => sum + queue.inFlight, 0)
  }

  get states(): ConnectionState[] {
    return this.#connections.map(({ state }) => state)
  }

  /** Resolves once every connection is made, or the first attempt at it has failed. */
  async attempted(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.attempted()))
  }

  /**
   * Resolves once the broker has acknowledged at the message's QoS; QoS 0 once it is written to a live connection.
   * @throws CausewayError that says what the broker answered, or that it did not
   */
  async publish(message: Message): Promise<PublishResult> {
    const startedAt = performance.now()
    try {
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
    }
  }

  /** As `publish`, but waits where the limits are reached; in the order of the calls, for each topic. */
  async publishWhenRoom(message: Message): Promise<PublishResult> {
    const index = queueOf(message.topic, this.#queues.length)
    const queue = this.#queues[index]!
    const before = this.#admissions[index]
    if (before === undefined && queue.hasRoom(message)) return this.publish(message)
    let result!: Promise<PublishResult>
    const admitted = Promise.resolve(before).then(async () => {
      while (!queue.hasRoom(message)) await queue.freed()
      result = this.publish(message)
      // Whoever waits for it takes the error; until then it is nobody's.
      result.catch(() => {})
    })
    this.#admissions[index] = admitted
    await admitted
    if (this.#admissions[index] === admitted) this.#admissions[index] = undefined
    return result
  }

  /** Disconnects. Publishes still in flight stay unanswered until their timeout: let them finish first. */
  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }
}

/** FNV-1a over UTF-16 units: any spread that is the same every time will do. */
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
    case 'publish-interrupted':
      return 'unavailable'
    case 'overloaded':
      return 'overloaded'
    default:
      return 'rejected'
  }
}
