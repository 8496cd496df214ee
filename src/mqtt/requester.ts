import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { CausewayError } from '../errors.ts'
import type { MemoryShare } from '../memory/account.ts'
import { withTimeout } from './with-timeout.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { PublishResult } from './publish/in-flight.ts'
import { type Message, sizeOf } from './message.ts'
import type { NetworkConnection } from './client/network-connection.ts'

/** What a reply was: to a request that waits, to an earlier request, or to none of ours. */
export const REPLY_RESULTS = ['delivered', 'late', 'foreign'] as const

export type ReplyResult = (typeof REPLY_RESULTS)[number]

export interface RequesterOptions {
  connection: Omit<ConnectionOptions, 'handlers'>
  /** The response topic. No other client may use it. */
  replyTopic: string
  /** Most requests that may wait at the same time. */
  requestsMax: number
  /** How long to wait for SUBACK. */
  timeoutMs: number
  publish(message: Message, share: MemoryShare): Promise<PublishResult>
  observe(result: ReplyResult): void
}

/** What is known about whether the message of a request was published. */
type Progress = 'not-sent' | 'unknown' | 'acknowledged'

const MAC_BYTES = 16

/**
 * MQTT 5 request and response (section 4.10). All requests use one response topic; correlation data that nobody can
 * guess says which request a reply belongs to.
 */
export class Requester implements ConnectionHandlers {
  readonly #options: RequesterOptions
  readonly #connection: Connection
  readonly #secret = randomBytes(32)
  readonly #waiting = new Map<string, (reply: Message) => void>()
  /** How many requests of each caller wait, by the name of its share. */
  readonly #waitingBy = new Map<string, number>()
  #lastRequest = 0n
  #subscribed: Promise<unknown> | undefined

  constructor(options: RequesterOptions) {
    this.#options = options
    this.#connection = new Connection({ ...options.connection, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** The number of requests that wait for their reply. */
  get waiting(): number {
    return this.#waiting.size
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /**
   * Publishes with response topic and correlation data, and resolves with the reply.
   * @param timeoutMs from this call to the reply, everything in between included
   * @param signal ends the wait; a reply that arrives later counts as late
   * @param share holds the message until the reply is there
   * @throws CausewayError also if nobody subscribes, nobody replies in time, or the broker does not speak MQTT 5
   */
  async request(message: Message, timeoutMs: number, signal: AbortSignal, share: MemoryShare): Promise<Message> {
    this.#requireRoom(share)
    const bytes = sizeOf(message)
    if (!share.take('requests', bytes)) {
      throw overloaded('This caller already has as much memory as CAUSEWAY_MEMORY_BYTES leaves it')
    }
    this.#count(share, 1)
    try {
      return await this.#exchange(message, timeoutMs, signal, share)
    } finally {
      this.#count(share, -1)
      share.give('requests', bytes)
    }
  }

  /** As of memory, a caller may have as many requests waiting as are left for all others, but always one. */
  #requireRoom({ name }: MemoryShare): void {
    const { requestsMax } = this.#options
    const all = this.#waiting.size
    if (all >= requestsMax) {
      throw overloaded(`${all} requests wait for their reply, which is all CAUSEWAY_REQUESTS_MAX allows`)
    }
    const own = this.#waitingBy.get(name) ?? 0
    if (own > 0 && own >= requestsMax - all) {
      throw overloaded(
        `${own} requests of this caller wait for their reply, which is its share of CAUSEWAY_REQUESTS_MAX`,
      )
    }
  }

  #count({ name }: MemoryShare, change: 1 | -1): void {
    const own = (this.#waitingBy.get(name) ?? 0) + change
    if (own === 0) this.#waitingBy.delete(name)
    else this.#waitingBy.set(name, own)
  }

  async #exchange(message: Message, timeoutMs: number, signal: AbortSignal, share: MemoryShare): Promise<Message> {
    const correlationData = this.#newCorrelationData()
    let progress: Progress = 'not-sent'
    let timer: NodeJS.Timeout | undefined
    let abort!: () => void
    try {
      return await new Promise<Message>((resolve, reject) => {
        const giveUp = (why: string) =>
          reject(new CausewayError('no-reply', why, progress === 'acknowledged' ? {} : { outcome: progress }))
        timer = setTimeout(() => giveUp(`Nobody replied within ${timeoutMs} ms`), timeoutMs)
        abort = () => giveUp('The caller has left')
        signal.addEventListener('abort', abort)
        this.#waiting.set(correlationData, resolve)
        // The reply may arrive before the PUBACK, so neither waits for the other.
        this.#send(message, correlationData, share, (reached) => (progress = reached)).catch(reject)
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
      this.#waiting.delete(correlationData)
    }
  }

  async #send(
    message: Message,
    correlationData: string,
    share: MemoryShare,
    onProgress: (progress: Progress) => void,
  ): Promise<void> {
    const { publish, replyTopic } = this.#options
    await this.#subscribedOverMqtt5()
    // The request was given up while it waited for the connection.
    if (!this.#waiting.has(correlationData)) return
    onProgress('unknown')
    const { matchedSubscribers } = await publish(
      { ...message, properties: { ...message.properties, responseTopic: replyTopic, correlationData } },
      share,
    )
    if (matchedSubscribers === false) throw new CausewayError('no-responder', `Nobody subscribes to ${message.topic}`)
    onProgress('acknowledged')
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  connected(network: NetworkConnection): void {
    // Also where the broker has a session: another client with the same client id may have begun it.
    this.#subscribed = undefined
    // Requests that already wait need the subscription too, or their replies would never arrive.
    if (this.#waiting.size > 0) this.#subscribe(network).catch(() => {})
  }

  message(message: Message): void {
    const correlationData = message.properties?.correlationData ?? ''
    const resolve = this.#waiting.get(correlationData)
    this.#options.observe(resolve !== undefined ? 'delivered' : this.#isOurs(correlationData) ? 'late' : 'foreign')
    this.#waiting.delete(correlationData)
    resolve?.(message)
  }

  async #subscribedOverMqtt5(): Promise<void> {
    const network = await this.#connection.ready()
    if (this.#connection.capabilities!.protocol !== 5) {
      throw new CausewayError(
        'requests-not-supported',
        'The broker speaks MQTT 3.1.1, which has no request and response',
      )
    }
    await this.#subscribe(network)
  }

  #subscribe(network: NetworkConnection): Promise<unknown> {
    this.#subscribed ??= withTimeout(
      network.subscribe(this.#options.replyTopic, 1, { identifier: undefined, retained: 'never' }),
      this.#options.timeoutMs,
    ).catch((error: unknown) => {
      this.#subscribed = undefined
      throw error
    })
    return this.#subscribed
  }

  /**
   * A number and its authentication code. The code shows that correlation data is ours, even when the request is
   * already forgotten: that is how a late reply differs from a foreign one.
   */
  #newCorrelationData(): string {
    this.#lastRequest += 1n
    const number = Buffer.alloc(8)
    number.writeBigUInt64BE(this.#lastRequest)
    return Buffer.concat([number, this.#mac(number)]).toString('base64')
  }

  #isOurs(correlationData: string): boolean {
    const bytes = Buffer.from(correlationData, 'base64')
    return bytes.length === 8 + MAC_BYTES && timingSafeEqual(bytes.subarray(8), this.#mac(bytes.subarray(0, 8)))
  }

  #mac(number: Buffer): Buffer {
    return createHmac('sha256', this.#secret).update(number).digest().subarray(0, MAC_BYTES)
  }
}

function overloaded(why: string): CausewayError {
  return new CausewayError('overloaded', `${why}; this one was not sent`, { outcome: 'not-sent', retryAfter: 1 })
}
