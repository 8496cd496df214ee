import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { NetworkConnection } from './client/network-connection.ts'
import type { Acknowledgement } from './client/packets.ts'
import type { Message } from './message.ts'
import { FIRST_REFUSAL, NO_MATCHING_SUBSCRIBERS } from './reason-codes.ts'
import { withTimeout } from './with-timeout.ts'

const RANDOM_BYTES = 12
const SESSION_DIGITS = 32
/**
 * Packet identifiers of markers count down from the highest one. Those of SUBSCRIBE and UNSUBSCRIBE are below (see
 * `PacketIds`), so the two never meet.
 */
const PACKET_ID_MAX = 65_535
const PACKET_ID_MIN = 60_000
/** No marker is waited for that long (MQTT 5). */
const EXPIRY_S = 60
/** After so many losses of the connection over the very first marker the broker is taken to refuse them that way. */
const LOSSES_MAX = 2
/** How long a first marker may take after the broker has acknowledged it. */
const FIRST_MARKER_MS = 1000

/**
 * The markers of one link: messages without meaning that the bridge publishes to itself. A broker hands messages on in
 * the order in which it took them. So where a marker arrives, all has arrived on that connection that the broker had
 * for it before the marker, however busy the connection is.
 */
export class Markers {
  /** Its own topic, which nobody else knows. */
  readonly topic: string
  readonly #prefix: string
  /** Resolves once markers have come back for the first time. */
  readonly cameBack: Promise<void>
  #noteCameBack = (): void => {}
  #work: boolean | undefined
  /** Settles once it is known; set by whoever finds it out. */
  learning: Promise<void> = Promise.resolve()
  /** The broker refuses to take markers, so none is ever sent again. */
  isForbidden = false
  /** How often a connection was lost while the first marker was unanswered. */
  #losses = 0

  /** @param prefix the topic below which the markers of all bridges are */
  constructor(prefix: string) {
    this.#prefix = `${prefix}/`
    this.topic = `${this.#prefix}${randomBytes(RANDOM_BYTES).toString('hex')}`
    this.cameBack = new Promise((resolve) => (this.#noteCameBack = resolve))
  }

  /**
   * Whether markers come back: undefined until that is known. An access rule of the broker may forbid the topic. Then
   * nothing is published there any more, as some brokers close the connection over a publish that they refuse.
   */
  get work(): boolean | undefined {
    return this.#work
  }

  set work(work: boolean) {
    this.#work = work
    if (work) this.#noteCameBack()
  }

  /** Whether it is a topic of any bridge's markers. No reader gets messages from there. */
  isMarkerTopic(topic: string): boolean {
    return topic.startsWith(this.#prefix)
  }

  /**
   * The topic at which a durable session has a marker of its own. The same at every bridge, so that a session that goes
   * from one to the other has one subscription more, not one for each.
   */
  sessionTopic(clientId: string): string {
    return `${this.#prefix}${createHash('sha256').update(clientId).digest('hex').slice(0, SESSION_DIGITS)}`
  }

  /** A connection was lost while the first marker was unanswered. */
  lostUnanswered(): void {
    this.#losses += 1
    if (this.#losses >= LOSSES_MAX) this.forbidden()
  }

  forbidden(): void {
    this.work = false
    this.isForbidden = true
  }
}

/** Called for the other messages below the marker topic: those that try out what the broker does. */
export type TrialListener = (message: Message, identifiers: readonly number[]) => void

/** The markers that are sent and received on one connection. */
export class MarkerLine {
  readonly #markers: Markers
  /** Names this connection among those of the link. */
  readonly source: string
  readonly #timeoutMs: number
  readonly #settled: () => Promise<unknown>
  #network: NetworkConnection | undefined
  #saysNobodySubscribes = false
  /** Whether the broker granted the subscription to the markers; undefined where it was not asked. */
  #subscribed: Promise<boolean> | undefined
  #lastPacketId = PACKET_ID_MIN
  #lastSent = 0
  /** The number of the newest marker that arrived, by the source it was sent on. */
  readonly #newest = new Map<string, number>()
  readonly #waiting = new Set<{ source: string; number: number; done: (arrived: boolean) => void }>()
  readonly #unacknowledged = new Map<number, (taken: boolean) => void>()
  readonly #listeners = new Set<TrialListener>()

  /**
   * @param settled resolves once nothing waits at the broker for us. Called when a marker comes at QoS 0: over MQTT
   *   3.1.1 brokers send one copy for overlapping filters, so where there is a filter such as # at QoS 0, no other one
   *   may come. Such a copy may overtake messages of a higher QoS
   */
  constructor(markers: Markers, source: string, timeoutMs: number, settled: () => Promise<unknown>) {
    this.#markers = markers
    this.#settled = settled
    this.source = source
    this.#timeoutMs = timeoutMs
  }

  /** Whether markers sent on any connection of the link arrive on this one, as far as is known. */
  get isSubscribed(): boolean {
    return this.#subscribed !== undefined
  }

  /** Whether the broker has said so, in an acknowledgement on this network connection. */
  get saysNobodySubscribes(): boolean {
    return this.#saysNobodySubscribes
  }

  connected(network: NetworkConnection, sessionPresent: boolean): void {
    this.#network = network
    // It may be another broker.
    this.#saysNobodySubscribes = false
    if (sessionPresent) return
    // Markers that were on their way are lost with the session.
    const wasSubscribed = this.#subscribed !== undefined
    this.#subscribed = undefined
    this.#settleAll(false)
    if (wasSubscribed) void this.subscribe()
  }

  lost(): void {
    this.#network = undefined
    if (this.#unacknowledged.size > 0 && this.#markers.work === undefined) this.#markers.lostUnanswered()
    for (const done of this.#unacknowledged.values()) done(false)
    this.#unacknowledged.clear()
  }

  /** Makes everybody who waits for a marker go on without it. */
  close(): void {
    this.#settleAll(false)
  }

  /**
   * Asks the broker for the markers, once for each session.
   * @returns whether it granted that
   */
  subscribe(): Promise<boolean> {
    const network = this.#network
    if (network === undefined) return Promise.resolve(false)
    this.#subscribed ??= withTimeout(
      network.subscribe(this.#markers.topic, 1, { identifier: undefined, retained: 'never' }),
      this.#timeoutMs,
    ).then(
      () => true,
      () => {
        this.#subscribed = undefined
        return false
      },
    )
    return this.#subscribed
  }

  /**
   * Publishes a marker on this connection, behind all that was written before.
   * @returns its number
   */
  send(): number {
    this.#lastSent += 1
    this.publish({ topic: this.#markers.topic, payload: Buffer.from(`${this.source} ${this.#lastSent}`) })
    return this.#lastSent
  }

  /**
   * Publishes below the marker topic. Resolves once the broker has acknowledged it, with whether it took it, or when
   * the connection is lost.
   */
  publish(message: Pick<Message, 'topic' | 'payload' | 'properties'> & { retain?: boolean }): Promise<boolean> {
    const network = this.#network
    if (network === undefined) return Promise.resolve(false)
    if (this.#lastPacketId <= PACKET_ID_MIN) this.#lastPacketId = PACKET_ID_MAX + 1
    this.#lastPacketId -= 1
    const packetId = this.#lastPacketId
    // Clients that are away and subscribe to # must not find old markers in their queues.
    const properties = { messageExpiryInterval: EXPIRY_S, ...message.properties }
    network.publish({ retain: false, ...message, qos: 1, properties }, packetId, false)
    return new Promise((resolve) => this.#unacknowledged.set(packetId, resolve))
  }

  acknowledged({ messageId, reasonCode = 0 }: Acknowledgement): void {
    const done = this.#unacknowledged.get(messageId)
    if (done === undefined) return
    this.#unacknowledged.delete(messageId)
    const isRefused = reasonCode >= FIRST_REFUSAL
    if (reasonCode === NO_MATCHING_SUBSCRIBERS) this.#saysNobodySubscribes = true
    if (isRefused) this.#markers.forbidden()
    done(!isRefused)
  }

  /** Takes a message if it is below the topic of any markers; readers get none of these. */
  message(message: Message, identifiers: readonly number[]): boolean {
    const { topic, qos, payload } = message
    if (!this.#markers.isMarkerTopic(topic)) return false
    if (topic !== this.#markers.topic) {
      for (const listener of this.#listeners) listener(message, identifiers)
      return true
    }
    const [source = '', number] = payload.toString().split(' ')
    const arrived = (): void => this.#arrived(source, Number(number))
    if (qos > 0) arrived()
    else void this.#settled().then(arrived, () => {})
    return true
  }

  /**
   * Calls the listener for each message below the marker topic of any bridge.
   * @returns ends that
   */
  listen(listener: TrialListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Resolves once this marker, or a later one of the same source, has arrived here.
   * @returns false where that does not show any more, as the session is lost
   */
  arrived(source: string, number: number): Promise<boolean> {
    if ((this.#newest.get(source) ?? 0) >= number) return Promise.resolve(true)
    return new Promise((resolve) => {
      const waiter = {
        source,
        number,
        done: (arrived: boolean): void => {
          this.#waiting.delete(waiter)
          resolve(arrived)
        },
      }
      this.#waiting.add(waiter)
    })
  }

  /**
   * Finds out whether markers come back at this broker. Resolves once `Markers.work` is known, or the connection is
   * lost before.
   */
  async learn(): Promise<void> {
    const network = this.#network
    if (network === undefined || this.#markers.isForbidden) return
    const isGranted = this.subscribe()
    this.#lastSent += 1
    const number = this.#lastSent
    const payload = Buffer.from(`${this.source} ${number}`)
    const isTaken = this.publish({ topic: this.#markers.topic, payload })
    const arrived = this.arrived(this.source, number).then(() => true)
    const isRefused = Promise.all([isGranted, isTaken]).then(async ([granted, taken]) => {
      if (!granted || !taken) return false
      // Brokers that only filter what they deliver acknowledge the marker all the same.
      await Promise.race([arrived, delay(FIRST_MARKER_MS, undefined, { ref: false })])
      return (this.#newest.get(this.source) ?? 0) >= number
    })
    const works = await Promise.race([arrived, isRefused])
    if (this.#network === network && !this.#markers.isForbidden) this.#markers.work = works
  }

  #arrived(source: string, number: number): void {
    if ((this.#newest.get(source) ?? 0) < number) this.#newest.set(source, number)
    for (const waiter of this.#waiting) {
      if (waiter.source === source && waiter.number <= number) waiter.done(true)
    }
  }

  #settleAll(arrived: boolean): void {
    for (const waiter of this.#waiting) waiter.done(arrived)
  }
}
