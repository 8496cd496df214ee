import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { CausewayError } from '../errors.ts'
import { withTimeout } from './with-timeout.ts'
import type { Capabilities } from './capabilities.ts'
import { Connection, type ConnectionHandlers, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { PublishResult } from './publish/in-flight.ts'
import type { Message } from './message.ts'
import type { NetworkConnection } from './client/network-connection.ts'

/** What became of a reply. */
export type ReplyResult = 'delivered' | 'late' | 'foreign'

export interface RequesterOptions {
  connection: Omit<ConnectionOptions, 'handlers'>
  /** Where replies are asked to go; of this bridge alone. */
  replyTopic: string
  /** Requests waiting at once. */
  requestsMax: number
  /** How long to wait for SUBACK. */
  timeoutMs: number
  publish(message: Message): Promise<PublishResult>
  observe(result: ReplyResult): void
}

/** How far the message of a request has come. */
type Progress = 'not-sent' | 'unknown' | 'acknowledged'

const MAC_BYTES = 16

/** MQTT 5 request and response (section 4.10): one reply topic a bridge, told apart by correlation data nobody can guess. */
export class Requester implements ConnectionHandlers {
  readonly #options: RequesterOptions
  readonly #connection: Connection
  readonly #secret = randomBytes(32)
  readonly #waiting = new Map<string, (reply: Message) => void>()
  #lastRequest = 0n
  #network: NetworkConnection | undefined
  #capabilities: Capabilities | undefined
  #unavailable: CausewayError | undefined
  #subscribed: Promise<unknown> | undefined

  constructor(options: RequesterOptions) {
    this.#options = options
    this.#connection = new Connection({ ...options.connection, handlers: this })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** Requests waiting for their reply. */
  get waiting(): number {
    return this.#waiting.size
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  /**
   * Publishes with response topic and correlation data and resolves with the reply.
   * @param timeoutMs from the call to the reply, whatever else it waits for
   * @param signal gives the request up; a reply is late from then on
   * @throws CausewayError also where nobody subscribes, nobody replies in time, or the broker is not an MQTT 5 one
   */
  async request(message: Message, timeoutMs: number, signal: AbortSignal): Promise<Message> {
    const { requestsMax } = this.#options
    if (this.#waiting.size >= requestsMax) {
      throw new CausewayError(
        'overloaded',
        `${this.#waiting.size} requests wait for their reply, which is all CAUSEWAY_REQUESTS_MAX allows; this one was not sent`,
        { outcome: 'not-sent', retryAfter: 1 },
      )
    }
    const correlationData = this.#correlation()
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
        // The reply may overtake the acknowledgement, so neither waits for the other.
        this.#send(message, correlationData, (now) => (progress = now)).catch(reject)
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
      this.#waiting.delete(correlationData)
    }
  }

  async #send(message: Message, correlationData: string, onProgress: (progress: Progress) => void): Promise<void> {
    const { publish, replyTopic } = this.#options
    await this.#ready()
    // Nobody waits for the reply any more.
    if (!this.#waiting.has(correlationData)) return
    onProgress('unknown')
    const { matchedSubscribers } = await publish({
      ...message,
      properties: { ...message.properties, responseTopic: replyTopic, correlationData },
    })
    if (matchedSubscribers === false) throw new CausewayError('no-responder', `Nobody subscribes to ${message.topic}`)
    onProgress('acknowledged')
  }

  close(): Promise<void> {
    return this.#connection.close()
  }

  connected(network: NetworkConnection, capabilities: Capabilities, sessionPresent: boolean): void {
    this.#network = network
    this.#capabilities = capabilities
    this.#unavailable = undefined
    if (!sessionPresent) this.#subscribed = undefined
    // Requests that wait would otherwise never hear of their replies.
    if (this.#waiting.size > 0) this.#subscribe(network).catch(() => {})
  }

  lost(): void {
    this.#network = undefined
  }

  unreachable(error: CausewayError): void {
    this.#unavailable = error
  }

  message(message: Message): void {
    const correlationData = message.properties?.correlationData ?? ''
    const deliver = this.#waiting.get(correlationData)
    this.#options.observe(deliver !== undefined ? 'delivered' : this.#isOurs(correlationData) ? 'late' : 'foreign')
    this.#waiting.delete(correlationData)
    deliver?.(message)
  }

  async #ready(): Promise<void> {
    await this.#connection.attempted()
    const network = this.#network
    if (network === undefined) {
      throw (
        this.#unavailable ??
        new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
      )
    }
    if (this.#capabilities!.protocol !== 5) {
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

  /** A number and its authentication code, so that a late reply can be told from one that answers nothing of ours. */
  #correlation(): string {
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
