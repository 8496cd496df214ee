import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { CausewayError } from '../errors.ts'
import type { NetworkConnection } from '../mqtt/client/network-connection.ts'
import type { Acknowledgement } from '../mqtt/client/packets.ts'
import type { Capabilities } from '../mqtt/capabilities.ts'
import {
  Connection,
  type ConnectionHandlers,
  type ConnectionOptions,
  type ConnectionState,
} from '../mqtt/connection.ts'
import type { Message, MessageProperties } from '../mqtt/message.ts'
import { isCredentialsRefused } from '../mqtt/monitor.ts'
import { FIRST_REFUSAL, refusal } from '../mqtt/reason-codes.ts'
import { Envelopes } from './envelope.ts'
import { type Answer, type ClusterMessage, type Question, type QuestionResult, readMessage } from './messages.ts'

export interface ClusterOptions {
  connection: Omit<ConnectionOptions, 'handlers' | 'will' | 'role' | 'keepSession'>
  /** All that replicas write to each other is below this topic. */
  topic: string
  /** The same at all replicas; undefined where messages are not signed. */
  secret: string | undefined
  /** Answers what another replica asks; undefined where this one does not have the session. */
  answer(question: Question): Promise<Answer | undefined>
  /** The bridge works without an account of its own, so a broker that refuses its credentials is not asked again. */
  isAccountOptional: boolean
  /** Called once, if the broker does not let the bridge use the topic, or in if that is optional. */
  onRefused(error: CausewayError): void
  /** Called for messages that are not of a replica with the same secret. */
  onForeign(): void
  /** Called with what became of each question. */
  observe(about: Question['about'], result: QuestionResult): void
}

/** How long the others have for their answers, so that the caller has its own within two seconds. */
const ANSWER_MS = 1500
/** The same for MQTT 5 brokers, in whole seconds. */
const EXPIRY_S = 2
/** How long after its own hello a replica waits to hear of the others before it asks them. */
const MEET_MS = 300
/** A hello again, in case somebody did not get an earlier one. */
const HELLO_MS = 60_000
/** Most replicas, and most that asked once and are remembered. Without a secret anybody may say that he is one. */
const MEMBERS_MAX = 1000
const ASKERS_MAX = 10_000
const QUESTIONS_MAX = 10_000
/** MQTT.js gives SUBSCRIBE the lowest identifier that is free, so the one of the hello is the highest. */
const HELLO_PACKET_ID = 65_535
/** After so many losses of the connection over a hello, the broker is taken to refuse it that way. */
const LOSSES_MAX = 3

interface PendingQuestion {
  /** Those that have not answered yet. */
  waiting: Set<string>
  answers: Answer[]
  isEnough(answer: Answer): boolean
  done(): void
}

/**
 * What replicas ask each other about durable sessions, over the broker. Each says hello when it connects, and so they
 * know of each other; a question goes to each of the others by itself, and each of them answers it. One that does not
 * is forgotten until it is heard of again. What counts is the JSON envelope, so that replicas over MQTT 5 and over
 * 3.1.1 understand each other; over MQTT 5 questions are requests (section 4.10) as well, and expire.
 */
export class Cluster implements ConnectionHandlers {
  readonly #options: ClusterOptions
  readonly #envelopes: Envelopes
  readonly #connection: Connection
  /** Random, and new for each process. */
  readonly #id = randomBytes(12).toString('hex')
  readonly #members = new Set<string>()
  #hasHeardAny = false
  readonly #pending = new Map<number, PendingQuestion>()
  /** The number of the last question of each replica. */
  readonly #lastNumbers = new LRUCache<string, number>({ maxSize: ASKERS_MAX, sizeCalculation: () => 1 })
  #lastNumber = 0
  /** Resolves once the replicas that there are have had time to say so. */
  #met: Promise<unknown> = Promise.resolve()
  #heardOwnHello: (() => void) | undefined
  #isHelloUnanswered = false
  #losses = 0
  #isRefused = false
  readonly #helloTimer: NodeJS.Timeout

  constructor(options: ClusterOptions) {
    this.#options = options
    const { onState = () => {} } = options.connection
    this.#envelopes = new Envelopes(options.secret)
    this.#connection = new Connection({
      ...options.connection,
      onState: (state, change) => {
        if (!this.#isUnwanted(change.cause)) onState(state, change)
      },
      role: 'cluster',
      // What came while it was away is too old to be answered.
      keepSession: false,
      will: { topic: this.#all, payload: this.#envelopes.seal(this.#bye), qos: 0, retain: false },
      handlers: this,
    })
    this.#helloTimer = setInterval(() => {
      const { network } = this.#connection
      if (network !== undefined && !this.#isRefused) this.#sayHello(network)
    }, HELLO_MS)
    this.#helloTimer.unref()
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  /** How many other replicas are known. */
  get size(): number {
    return this.#members.size
  }

  /**
   * Asks all other replicas. Resolves with the answers of those that have the session, within 1.5 seconds, and earlier
   * once one of them is enough or all have answered.
   * @returns undefined where they cannot be asked, or none was ever heard of, so that nothing is known of them: a
   *   bridge with another secret or an older version may still have the session
   */
  async ask(question: Question, isEnough: (answer: Answer) => boolean): Promise<Answer[] | undefined> {
    const { observe } = this.#options
    const timeout = new AbortController()
    const late = delay(ANSWER_MS, 'late', { signal: timeout.signal, ref: false }).catch(() => 'late')
    try {
      if ((await Promise.race([this.#ready(), late])) === 'late') return undefined
      if (this.#isRefused || this.#connection.network === undefined) return undefined
      if (this.#members.size === 0) return this.#hasHeardAny ? [] : undefined
      if (this.#pending.size >= QUESTIONS_MAX) throw tooManyQuestions()
      const { answers, waiting } = await this.#exchange(question, isEnough, late)
      // Until it is heard of again.
      for (const silent of waiting) this.#members.delete(silent)
      observe(question.about, answers.length > 0 ? 'answered' : waiting.size > 0 ? 'timeout' : 'nobody')
      return answers
    } finally {
      timeout.abort()
    }
  }

  connected(network: NetworkConnection, _capabilities: Capabilities): void {
    if (this.#isRefused) return
    this.#met = this.#meet(network).catch((error: CausewayError) => {
      // The connection was lost, and `connected` is called again.
      if (error.kind.code !== 'broker-unavailable') this.#refused(error)
    })
  }

  unreachable(error: CausewayError): void {
    if (this.#isUnwanted(error)) this.#refused(error)
  }

  lost(): void {
    this.#losses = this.#isHelloUnanswered ? this.#losses + 1 : 0
    this.#isHelloUnanswered = false
    if (this.#losses < LOSSES_MAX) return
    this.#refused(
      new CausewayError('broker-refused', `The broker closes the connection over a message to ${this.#all}`),
    )
  }

  acknowledged({ reasonCode = 0 }: Acknowledgement): void {
    this.#isHelloUnanswered = false
    if (reasonCode < FIRST_REFUSAL) this.#losses = 0
    else this.#refused(refusal(reasonCode, `The broker refused a message to ${this.#all}`))
  }

  message({ payload }: Message): void {
    const message = readMessage(this.#envelopes.open(payload))
    if (message === undefined) return this.#options.onForeign()
    if (message.from === this.#id) return this.#own(message)
    if ('to' in message && !message.to.includes(this.#id)) return
    if (message.kind === 'bye') return this.#gone(message.from)
    this.#hasHeardAny = true
    if (this.#members.size < MEMBERS_MAX) this.#members.add(message.from)
    if (message.kind === 'hello') this.#sayHere(message.from)
    else if (message.kind === 'ask') void this.#answer(message)
    else if (message.kind === 'answer') this.#answered(message)
  }

  async close(): Promise<void> {
    clearInterval(this.#helloTimer)
    this.#send(this.#all, this.#bye)
    for (const { done } of this.#pending.values()) done()
    await this.#connection.close()
  }

  get #all(): string {
    return `${this.#options.topic}/all`
  }

  get #bye(): ClusterMessage {
    return { kind: 'bye', from: this.#id }
  }

  #to(replica: string): string {
    return `${this.#options.topic}/to/${replica}`
  }

  /** Resolves once it is connected and knows the others, or cannot be connected. */
  async #ready(): Promise<void> {
    await this.#connection.attempted()
    await this.#met
  }

  async #meet(network: NetworkConnection): Promise<void> {
    const options = { identifier: undefined, retained: 'never' } as const
    await Promise.all([this.#all, this.#to(this.#id)].map((topic) => network.subscribe(topic, 1, options)))
    const heard = new Promise<void>((resolve) => (this.#heardOwnHello = resolve))
    this.#isHelloUnanswered = true
    this.#sayHello(network)
    // The broker hands the hello to the others and to this replica at about the same time.
    await Promise.race([heard, delay(ANSWER_MS, undefined, { ref: false })])
    await delay(MEET_MS, undefined, { ref: false })
  }

  /** At QoS 1: the acknowledgement says whether the broker lets the bridge write here. */
  #sayHello(network: NetworkConnection): void {
    const payload = this.#envelopes.seal({ kind: 'hello', from: this.#id } satisfies ClusterMessage)
    network.publish({ topic: this.#all, payload, qos: 1, retain: false }, HELLO_PACKET_ID, false)
  }

  #sayHere(replica: string): void {
    this.#send(this.#to(replica), { kind: 'here', from: this.#id, to: [replica] })
  }

  #own({ kind }: ClusterMessage): void {
    if (kind === 'hello') this.#heardOwnHello?.()
    // The will of an earlier connection of this process, or a record of it.
    const { network } = this.#connection
    if (kind === 'bye' && network !== undefined) this.#sayHello(network)
  }

  #gone(replica: string): void {
    this.#members.delete(replica)
    for (const pending of this.#pending.values()) {
      if (pending.waiting.delete(replica) && pending.waiting.size === 0) pending.done()
    }
  }

  async #exchange(
    question: Question,
    isEnough: (answer: Answer) => boolean,
    late: Promise<unknown>,
  ): Promise<PendingQuestion> {
    const number = (this.#lastNumber += 1)
    let done!: () => void
    const finished = new Promise<void>((resolve) => (done = resolve))
    const pending: PendingQuestion = { waiting: new Set(this.#members), answers: [], isEnough, done }
    this.#pending.set(number, pending)
    const properties = {
      responseTopic: this.#to(this.#id),
      correlationData: correlation(number),
      messageExpiryInterval: EXPIRY_S,
    }
    // Not to all: the broker would send it back to this replica too, and with Nagle's algorithm, which Mosquitto leaves
    // on, the answer would wait 40 ms behind that.
    for (const member of pending.waiting) {
      this.#send(this.#to(member), { kind: 'ask', from: this.#id, to: [member], number, question }, properties)
    }
    const isLate = (await Promise.race([finished, late])) === 'late'
    this.#pending.delete(number)
    if (!isLate) pending.waiting.clear()
    return pending
  }

  async #answer({ from, number, question }: Extract<ClusterMessage, { kind: 'ask' }>): Promise<void> {
    // Questions of one replica arrive in order, so this one was recorded by somebody and sent again.
    if (number <= (this.#lastNumbers.get(from) ?? 0)) return
    this.#lastNumbers.set(from, number)
    const answer = await this.#options.answer(question).catch(() => undefined)
    this.#send(
      this.#to(from),
      { kind: 'answer', from: this.#id, to: [from], number, answer: answer ?? null },
      { correlationData: correlation(number) },
    )
  }

  #answered({ from, number, answer }: Extract<ClusterMessage, { kind: 'answer' }>): void {
    const pending = this.#pending.get(number)
    if (pending === undefined || !pending.waiting.delete(from)) return
    if (answer !== null) pending.answers.push(answer)
    if (pending.waiting.size === 0 || (answer !== null && pending.isEnough(answer))) pending.done()
  }

  /** At QoS 0: what is lost is asked again by the caller, and no window of the broker fills. */
  #send(topic: string, message: ClusterMessage, properties?: MessageProperties): void {
    if (this.#isRefused) return
    const payload = this.#envelopes.seal(message)
    this.#connection.network?.publish({ topic, payload, qos: 0, retain: false, properties }, 0, false)
  }

  /** The bridge has no account, and needs none. */
  #isUnwanted(error: CausewayError | undefined): boolean {
    return this.#options.isAccountOptional && isCredentialsRefused(error)
  }

  /** Some brokers close the connection over each refusal, so nothing is sent any more. */
  #refused(error: CausewayError): void {
    if (this.#isRefused) return
    this.#isRefused = true
    this.#options.onRefused(error)
    // The connection calls its handlers before it plans the next attempt, which `close` takes back.
    queueMicrotask(() => void this.#connection.close())
  }
}

function correlation(number: number): string {
  return Buffer.from(String(number)).toString('base64')
}

function tooManyQuestions(): CausewayError {
  return new CausewayError('overloaded', `${QUESTIONS_MAX} requests wait for other replicas; this one had no effect`, {
    outcome: 'not-sent',
    retryAfter: 1,
  })
}
