import type { Writable } from 'node:stream'
import { Channel, type GapReason, type StreamCounters } from './channel.ts'
import type { EventName, Format } from './format.ts'
import type { LogLimits } from './log.ts'
import { type CloseReason, Reader } from './reader.ts'

/** Where the messages come from. */
export interface Source {
  /** Resolves once messages of these filters will be delivered to the channel. */
  add(channel: Channel, filters: readonly string[], qos: 0 | 1 | 2): Promise<void>
  remove(channel: Channel, filters: readonly string[]): void
}

/** A format, and what of a message goes into it. Channels with the same encoding share every frame. */
export interface Encoding<Message> {
  name: string
  format: Format
  /** One JSON text. */
  data(message: Message): string
}

export interface StreamSpec<Message> {
  filters: readonly string[]
  qos: 0 | 1 | 2
  encoding: Encoding<Message>
}

/** A hold on a channel; it lives at least until the last one is released, and its linger after that. */
export interface Lease {
  /** Streams to a response whose headers are written, from behind `lastEventId` on, or from now. Releases when it ends. */
  join(response: Writable, lastEventId: string | undefined): void
  release(): void
}

export interface HubCounters extends StreamCounters {
  opened(format: string): void
  closed(format: string, reason: CloseReason): void
  resumed(result: 'resumed' | GapReason): void
}

export interface HubOptions {
  source: Source
  /** Names this process's events; no dash in it. */
  epoch: string
  limits: LogLimits
  lingerMs: number
  heartbeatMs: number
  counters: HubCounters
}

interface Entry<Message> {
  channel: Channel
  encoding: Encoding<Message>
  ready: Promise<void>
  leases: number
  linger: NodeJS.Timeout | undefined
}

/** Clients come back spread over this time after a shutdown. */
const RETURN_MIN_MS = 500
const RETURN_SPREAD_MS = 4500

/** The channels there are. */
export class Hub<Message> {
  readonly #options: HubOptions
  readonly #entries = new Map<string, Entry<Message>>()
  readonly #byChannel = new Map<Channel, Entry<Message>>()
  readonly #heartbeat: NodeJS.Timeout
  #sequence = 0

  constructor(options: HubOptions) {
    this.#options = options
    this.#heartbeat = setInterval(() => this.#beat(), options.heartbeatMs)
  }

  /** Resolves once the source delivers; with its error where it will not. */
  async open(spec: StreamSpec<Message>): Promise<Lease> {
    const key = JSON.stringify([spec.encoding.name, spec.qos, ...[...new Set(spec.filters)].sort()])
    const entry = this.#entries.get(key) ?? this.#create(key, spec)
    entry.leases += 1
    clearTimeout(entry.linger)
    try {
      await entry.ready
    } catch (error) {
      entry.leases -= 1
      throw error
    }
    let released = false
    const release = () => {
      if (released) return
      released = true
      this.#release(key, entry)
    }
    return { release, join: (response, lastEventId) => this.#join(entry, response, lastEventId, release) }
  }

  /** A message for some of the channels: encoded once for each encoding among them. */
  deliver(message: Message, channels: Iterable<Channel>): void {
    this.#append('message', channels, (encoding) => encoding.data(message))
  }

  /** Tells the readers of these channels, in order with their messages, whether the broker is there. */
  status(connected: boolean, channels: Iterable<Channel>): void {
    const data = JSON.stringify({ broker: connected ? 'connected' : 'disconnected' })
    this.#append('status', channels, () => data)
  }

  gap(reason: GapReason, channels: Iterable<Channel>): void {
    const data = JSON.stringify({ reason })
    for (const _channel of channels) this.#options.counters.gap(reason, 0)
    this.#append('gap', channels, () => data)
  }

  /** Ends these channels and their streams, because the source will not deliver any more. */
  refuse(detail: string, channels: Iterable<Channel>): void {
    for (const channel of channels) {
      const data = JSON.stringify({ reason: 'subscription-refused', detail })
      const farewell = channel.encode('gap', (this.#sequence += 1), data)
      for (const [key, entry] of this.#entries) if (entry.channel === channel) this.#end(key, entry)
      for (const reader of channel.readers) reader.close('refused', farewell)
    }
  }

  /** Ends every stream and asks the clients to come back, not all at once. */
  close(): void {
    clearInterval(this.#heartbeat)
    for (const [key, entry] of this.#entries) {
      for (const reader of entry.channel.readers) {
        reader.close('shutdown', entry.channel.format.retry(RETURN_MIN_MS + Math.floor(Math.random() * RETURN_SPREAD_MS)))
      }
      this.#end(key, entry)
    }
  }

  #create(key: string, { filters, qos, encoding }: StreamSpec<Message>): Entry<Message> {
    const { epoch, limits, counters, source } = this.#options
    const unique = [...new Set(filters)]
    const channel = new Channel({ filters: unique, format: encoding.format, limits, counters, floor: this.#sequence, id: (sequence) => `${epoch}-${sequence}` })
    const entry: Entry<Message> = { channel, encoding, ready: source.add(channel, unique, qos), leases: 0, linger: undefined }
    this.#entries.set(key, entry)
    this.#byChannel.set(channel, entry)
    entry.ready.catch(() => this.#end(key, entry))
    return entry
  }

  #join({ channel, encoding }: Entry<Message>, response: Writable, lastEventId: string | undefined, release: () => void): void {
    const { counters } = this.#options
    const { position, missing } = this.#locate(channel, lastEventId)
    const reader = new Reader(channel, response, position, (reason) => {
      channel.readers.delete(reader)
      counters.closed(encoding.format.name, reason)
      release()
    })
    counters.opened(encoding.format.name)
    channel.readers.add(reader)
    if (lastEventId !== undefined) counters.resumed(missing ?? 'resumed')
    if (missing !== undefined) reader.write(channel.gap(missing), 1)
    reader.advance()
  }

  /** Where a reader with this id goes on, and what that leaves out. */
  #locate({ log, floor }: Channel, lastEventId: string | undefined): { position: number; missing?: GapReason } {
    if (lastEventId === undefined) return { position: log.next }
    const [, epoch, digits] = /^([^-]*)-(\d{1,15})$/.exec(lastEventId) ?? []
    const sequence = Number(digits)
    if (epoch !== this.#options.epoch || sequence > this.#sequence || sequence < floor) return { position: log.first, missing: 'unknown-id' }
    if (sequence < log.overwritten) return { position: log.first, missing: 'overrun' }
    return { position: log.positionAfter(sequence) }
  }

  #append(event: EventName, channels: Iterable<Channel>, data: (encoding: Encoding<Message>) => string): void {
    const sequence = (this.#sequence += 1)
    const frames = new Map<string, Buffer>()
    for (const channel of channels) {
      const entry = this.#byChannel.get(channel)
      if (entry === undefined) continue
      let bytes = frames.get(entry.encoding.name)
      if (bytes === undefined) frames.set(entry.encoding.name, (bytes = channel.encode(event, sequence, data(entry.encoding))))
      channel.append({ sequence, bytes })
    }
  }

  #beat(): void {
    for (const { channel } of this.#entries.values()) {
      const heartbeat = channel.format.heartbeat()
      for (const reader of channel.readers) reader.heartbeat(heartbeat)
    }
  }

  #release(key: string, entry: Entry<Message>): void {
    entry.leases -= 1
    if (entry.leases > 0 || this.#entries.get(key) !== entry) return
    entry.linger = setTimeout(() => this.#end(key, entry), this.#options.lingerMs)
  }

  #end(key: string, entry: Entry<Message>): void {
    clearTimeout(entry.linger)
    if (this.#entries.get(key) === entry) this.#entries.delete(key)
    if (this.#byChannel.delete(entry.channel)) this.#options.source.remove(entry.channel, entry.channel.filters)
  }
}
