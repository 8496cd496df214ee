import { get, type ClientRequest, type IncomingMessage } from 'node:http'
import type { Happening } from './continuity.ts'
import type { Ledger } from './ledger.ts'

export interface FollowerSpec {
  name: string
  filters: readonly string[]
  qos: 0 | 1 | 2
  slow: 'gap' | 'latest' | 'close'
  format: 'sse' | 'ndjson'
  embedJson: boolean
  retained: boolean
  /** How it sends the id of its last event. */
  resumeBy: 'header' | 'query'
}

const RETRY_MS = 20

/** A reader that reconnects by itself, as an EventSource does, and records everything that it sees. */
export class Follower {
  readonly spec: FollowerSpec
  readonly history: Happening[] = []
  readonly #url: string
  readonly #ledger: Ledger
  readonly #seen = new Map<string, number>()
  /** Status and body of the last response that was no stream. */
  lastRefusal = 'never refused'
  #lastEventId: string | undefined
  #request: ClientRequest | undefined
  #response: IncomingMessage | undefined
  #wanted = false
  #paused = false
  #rest = ''

  constructor(url: string, spec: FollowerSpec, ledger: Ledger) {
    this.#url = url
    this.spec = spec
    this.#ledger = ledger
  }

  /** Whether its stream is open now. */
  get isOpen(): boolean {
    return this.#response !== undefined
  }

  get isAway(): boolean {
    return !this.#wanted
  }

  /** The newest sequence of a topic that it has seen on this stream, or on those that this one continues. */
  seen(topic: string): number {
    return this.#seen.get(topic) ?? 0
  }

  /** Connects, and reconnects until `leave`. `fresh` opens a new stream rather than resuming the last one. */
  join(fresh: boolean): void {
    if (fresh) this.#lastEventId = undefined
    this.#wanted = true
    this.#paused = false
    this.#connect()
  }

  /** Destroys its socket, and what was still in it is lost. */
  leave(): void {
    this.#wanted = false
    const request = this.#request
    this.#request = this.#response = undefined
    request?.destroy()
  }

  pause(): void {
    this.#paused = true
    this.#response?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#response?.resume()
  }

  #connect(): void {
    const { filters, qos, slow, format, embedJson, retained, resumeBy } = this.spec
    const query = new URLSearchParams({ qos: String(qos), slow, retained: String(retained) })
    for (const filter of filters) query.append('topic', filter)
    if (embedJson) query.set('encoding', 'json')
    const id = this.#lastEventId
    if (id !== undefined && resumeBy === 'query') query.set('lastEventId', id)
    const headers = {
      accept: format === 'sse' ? 'text/event-stream' : 'application/x-ndjson',
      ...(id !== undefined && resumeBy === 'header' && { 'last-event-id': id }),
    }
    const request = get(`${this.#url}/subscribe?${query}`, { headers, agent: false })
    this.#request = request
    request.on('error', () => {})
    request.once('close', () => {
      if (this.#request !== request) return
      this.#request = this.#response = undefined
      if (this.#wanted) setTimeout(() => this.#wanted && this.#request === undefined && this.#connect(), RETRY_MS)
    })
    request.once('response', (response: IncomingMessage) => {
      if (this.#request !== request) return
      response.on('error', () => {})
      if (response.statusCode !== 200) {
        this.lastRefusal = `${response.statusCode}`
        response.setEncoding('utf8').on('data', (chunk: string) => {
          this.lastRefusal += chunk
        })
        return
      }
      this.#response = response
      this.#rest = ''
      if (id === undefined) this.#seen.clear()
      this.history.push({ kind: 'opened', resumed: id !== undefined, begun: this.#ledger.begun() })
      response.setEncoding('utf8').on('data', (chunk: string) => {
        if (this.#request === request) this.#read(chunk)
      })
      if (this.#paused) response.pause()
    })
  }

  #read(chunk: string): void {
    const separator = this.spec.format === 'sse' ? '\n\n' : '\n'
    const parts = (this.#rest + chunk).split(separator)
    this.#rest = parts.pop()!
    for (const part of parts) this.#event(this.spec.format === 'sse' ? parseSse(part) : parseNdjson(part))
  }

  #event({ event, id, data }: Event): void {
    if (id !== undefined) this.#lastEventId = id
    if (data === undefined) return
    if (event === 'gap') this.history.push({ kind: 'gap', reason: data.reason, begun: this.#ledger.begun() })
    else if (event === 'status' && data.broker === 'connected' && this.history.at(-1)?.kind === 'opened') {
      // The event that every stream begins with interrupts nothing.
    } else if (event === 'status') {
      this.history.push({ kind: 'status', connected: data.broker === 'connected', begun: this.#ledger.begun() })
    } else {
      const sequence = Number.parseInt(String(data.payload), 10)
      this.#seen.set(data.topic, sequence)
      this.history.push({
        kind: 'message',
        topic: data.topic,
        sequence,
        qos: data.qos,
        retained: data.retain,
        id,
        restarts: this.#ledger.restarts,
      })
    }
  }
}

interface Event {
  event: string
  id?: string
  // oxlint-disable-next-line no-explicit-any -- tests look into whatever comes
  data?: any
}

function parseSse(block: string): Event {
  const fields: Record<string, string> = {}
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':')
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2)
  }
  const { event = 'message', id, data } = fields
  return { event, ...(id !== undefined && { id }), ...(data !== undefined && { data: JSON.parse(data) }) }
}

function parseNdjson(line: string): Event {
  return JSON.parse(line)
}
