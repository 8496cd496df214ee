import { Agent, type ClientRequest, get, type IncomingMessage, request as open } from 'node:http'
import { createParser } from 'eventsource-parser'
import { keyOfArrived } from './ledger.ts'
import type { Stage } from './stage.ts'

export interface ReaderSpec {
  name: string
  filter: string
  format: 'sse' | 'ndjson'
  /** A durable session of the reader's name. */
  ack?: 'auto' | 'explicit'
}

/** What happened to a reader, in order. */
export type Happening = { at: number } & (
  | { kind: 'opened' | 'closed' | 'taken-over' }
  | { kind: 'refused'; answer: string }
  | { kind: 'gap'; reason: string }
  | { kind: 'status'; isConnected: boolean }
  | { kind: 'message'; key: string; isRedelivered: boolean }
)

const RETRY_MS = 100
/** Behind an outage of a minute thousands of messages wait, of which the window holds a hundred at a time. */
const ACKNOWLEDGE_MS = 25

/** Follows a filter and comes back with its Last-Event-ID whenever its stream ends, as an EventSource does. */
export class Reader {
  readonly spec: ReaderSpec
  readonly history: Happening[] = []
  /** When each message came first. */
  readonly arrivals = new Map<string, number>()
  isOpen = false
  /** The newest event it has had. */
  lastEventId: string | undefined
  /** Of its durable session, which the client id at the broker ends with. */
  sessionId: string | undefined
  readonly #urls: readonly string[]
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  #turn: number
  #request: ClientRequest | undefined
  #acknowledged: string | undefined
  #isOver = false

  /** @param urls of the bridges; each reconnect takes the next one */
  constructor(stage: Stage, spec: ReaderSpec, urls: readonly string[], first = 0) {
    this.spec = spec
    this.#urls = urls
    this.#turn = first
    const acknowledging = setInterval(() => this.#acknowledge(), ACKNOWLEDGE_MS)
    stage.onEnd(() => {
      clearInterval(acknowledging)
      this.leave()
      this.#agent.destroy()
    })
    this.#connect()
  }

  /** For good. */
  leave(): void {
    this.#isOver = true
    this.#request?.destroy()
  }

  get url(): string {
    return this.#urls[this.#turn % this.#urls.length]!
  }

  #connect(): void {
    const { filter, format, ack, name } = this.spec
    const query = new URLSearchParams({ topic: filter, retained: 'false', ...(ack && { session: name, ack }) })
    const request = get(`${this.url}/subscribe?${query}`, {
      agent: false,
      headers: {
        accept: format === 'sse' ? 'text/event-stream' : 'application/x-ndjson',
        ...(this.lastEventId !== undefined && { 'last-event-id': this.lastEventId }),
      },
    })
    this.#request = request
    request.on('error', (error: NodeJS.ErrnoException) => {
      if (!this.isOpen) this.#happened({ kind: 'refused', answer: error.code ?? error.message })
    })
    request.on('response', (response) => this.#answered(response))
    request.on('close', () => {
      if (this.isOpen) this.#happened({ kind: 'closed' })
      this.isOpen = false
      this.#turn += 1
      if (!this.#isOver) setTimeout(() => this.#isOver || this.#connect(), RETRY_MS)
    })
  }

  #answered(response: IncomingMessage): void {
    response.on('error', () => {})
    if (response.statusCode !== 200) {
      this.#happened({ kind: 'refused', answer: `${response.statusCode}` })
      // 204 ends an EventSource for good; whoever starts it again begins anew.
      if (response.statusCode === 204) this.lastEventId = undefined
      response.resume()
      return
    }
    this.isOpen = true
    this.#happened({ kind: 'opened' })
    const feed = this.spec.format === 'sse' ? eventFeed(this.#event) : lineFeed(this.#event)
    response.setEncoding('utf8').on('data', feed)
  }

  // oxlint-disable-next-line no-explicit-any -- whatever came
  readonly #event = (event: string, id: string | undefined, data: any): void => {
    if (id !== undefined) this.lastEventId = id
    if (event === 'gap') this.#happened({ kind: 'gap', reason: data.reason })
    else if (event === 'session') this.sessionId = data.id
    else if (event === 'status' && data.broker !== undefined) {
      this.#happened({ kind: 'status', isConnected: data.broker === 'connected' })
    } else if (event === 'status' && data.session === 'taken-over') this.#happened({ kind: 'taken-over' })
    else if (event === 'message') {
      const key = keyOfArrived(data.topic, String(data.payload))
      this.#happened({ kind: 'message', key, isRedelivered: data.redelivered === true })
      if (!this.arrivals.has(key)) this.arrivals.set(key, performance.now())
    }
  }

  #happened(
    happening: Happening extends infer Each ? (Each extends Happening ? Omit<Each, 'at'> : never) : never,
  ): void {
    this.history.push({ at: performance.now(), ...happening } as Happening)
  }

  #acknowledge(): void {
    const id = this.lastEventId
    if (this.spec.ack !== 'explicit' || !this.isOpen || id === undefined || id === this.#acknowledged) return
    const headers = { 'content-type': 'application/json' }
    const post = open(`${this.url}/sessions/${this.sessionId}/ack`, { method: 'POST', agent: this.#agent, headers })
    post.on('error', () => {})
    post.on('response', (response) => {
      response.resume()
      if (response.statusCode === 200) this.#acknowledged = id
    })
    post.end(JSON.stringify({ id }))
  }
}

// oxlint-disable-next-line no-explicit-any -- whatever came
type OnEvent = (event: string, id: string | undefined, data: any) => void

function eventFeed(onEvent: OnEvent): (chunk: string) => void {
  const parser = createParser({
    onEvent: ({ event = 'message', id, data }) => onEvent(event, id, data === '' ? undefined : JSON.parse(data)),
  })
  return (chunk) => parser.feed(chunk)
}

function lineFeed(onEvent: OnEvent): (chunk: string) => void {
  let rest = ''
  return (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const { event, id, data } = JSON.parse(line)
      onEvent(event, id, data)
    }
  }
}
