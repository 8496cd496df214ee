import type { Writable } from 'node:stream'
import { Channel, type GapReason, type StreamCounters } from '../channel.ts'
import { eventId } from '../event-id.ts'
import type { EventName, Format } from '../formats/format.ts'
import { type JoinOptions, Hold } from './hold.ts'
import type { LogLimits } from '../log.ts'
import { opening } from './opening.ts'
import { type CloseReason, type Ending, Reader } from '../reader.ts'
import { locate } from '../resume.ts'
import { reconnectDelayMs } from '../reconnect-delay.ts'
import { FanOut } from '../fan-out.ts'
import { WorkQueues } from './work-queues.ts'

/** All that is to be known of a message here. */
interface Deliverable {
  topic: string
  payload: Buffer
}

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
  /** Whether each message is for one of the readers only. */
  shared: boolean
  qos: 0 | 1 | 2
  encoding: Encoding<Message>
}

export interface StreamsCounters extends StreamCounters {
  opened(format: string): void
  closed(format: string, reason: CloseReason): void
  resumed(result: 'resumed' | GapReason): void
}

export interface SharedStreamsOptions {
  source: Source
  /** Names this process's events; no dash in it. */
  epoch: string
  limits: LogLimits
  lingerMs: number
  heartbeatMs: number
  /** How long a reader's socket may stay full. */
  stallMs: number
  counters: StreamsCounters
}

/** A channel, and who holds it. */
interface Entry<Message extends Deliverable> {
  key: string
  channel: Channel
  encoding: Encoding<Message>
  ready: Promise<void>
  holds: Set<Hold<Message>>
  /** Those of the holds that have no reader yet. */
  joining: Set<Hold<Message>>
  linger: NodeJS.Timeout | undefined
  /** Why it ended, for those who join too late. */
  farewell: Ending | undefined
}

/** The channels there are, and the one sequence of their events. */
export class SharedStreams<Message extends Deliverable> {
  readonly #options: SharedStreamsOptions
  readonly #entries = new Map<string, Entry<Message>>()
  readonly #byChannel = new Map<Channel, Entry<Message>>()
  readonly #queues: WorkQueues<Message>
  readonly #fanOut = new FanOut()
  readonly #heartbeat: NodeJS.Timeout
  #sequence = 0
  #connected = true

  constructor(options: SharedStreamsOptions) {
    this.#options = options
    this.#queues = new WorkQueues({
      limits: options.limits,
      encode: (channel, sequence, message) =>
        channel.encode('message', sequence, this.#byChannel.get(channel)!.encoding.data(message)),
    })
    this.#heartbeat = setInterval(() => this.#beat(), options.heartbeatMs)
  }

  /** Resolves once the source delivers; with its error where it will not. The hold is to be released, or joined. */
  async open(spec: StreamSpec<Message>): Promise<Hold<Message>> {
    const key = JSON.stringify([spec.encoding.name, spec.qos, ...[...new Set(spec.filters)].sort()])
    const entry = this.#entries.get(key) ?? this.#create(key, spec)
    const hold = new Hold<Message>(entry.channel, {
      sequence: () => this.#sequence,
      join: (response, options) => this.#join(entry, hold, response, options),
      release: () => this.#release(entry, hold),
    })
    entry.holds.add(hold)
    clearTimeout(entry.linger)
    try {
      await entry.ready
    } catch (error) {
      entry.holds.delete(hold)
      throw error
    }
    hold.start()
    entry.joining.add(hold)
    return hold
  }

  /** A message for each of these channels: encoded once for each encoding among them. */
  deliver(message: Message, channels: Iterable<Channel>): void {
    const sequence = (this.#sequence += 1)
    const frames = new Map<string, Buffer>()
    for (const channel of channels) this.#append(channel, message, sequence, frames)
  }

  /** A message for one reader of these shared channels, which stay the same set for as long as the subscription. */
  deliverToOne(message: Message, channels: ReadonlySet<Channel>): void {
    this.#queues.push(channels, {
      sequence: (this.#sequence += 1),
      message,
      bytes: message.topic.length + message.payload.length,
    })
  }

  /** Tells the readers of these channels, in order with their messages, whether the broker is there. */
  status(connected: boolean, channels: Iterable<Channel>): void {
    this.#connected = connected
    this.#broadcast('status', channels, statusOf(connected))
  }

  gap(reason: GapReason, channels: Iterable<Channel>): void {
    this.#broadcast('gap', channels, { reason })
    for (const { readers } of channels) for (const _reader of readers) this.#options.counters.gap(reason, 0)
  }

  /** Ends these channels and their streams, because the source will not deliver any more. */
  refuse(detail: string, channels: Iterable<Channel>): void {
    for (const channel of channels) {
      const entry = this.#byChannel.get(channel)
      if (entry === undefined) continue
      const gap = channel.encode(
        'gap',
        (this.#sequence += 1),
        JSON.stringify({ reason: 'subscription-refused', detail }),
      )
      const text = (): Buffer => {
        this.#options.counters.gap('subscription-refused', 0)
        return gap
      }
      this.#end(entry, { reason: 'refused', text })
    }
  }

  /** Ends every stream and asks the clients to come back, not all at once. */
  close(): void {
    clearInterval(this.#heartbeat)
    for (const entry of this.#entries.values()) {
      const { format } = entry.channel
      this.#end(entry, { reason: 'shutdown', text: () => format.retry(reconnectDelayMs()) })
    }
  }

  #create(key: string, { filters, shared, qos, encoding }: StreamSpec<Message>): Entry<Message> {
    const { epoch, limits, counters, source } = this.#options
    const unique = [...new Set(filters)]
    // A number of its own: an id from before the channel began must not pass for one of its time.
    const floor = (this.#sequence += 1)
    const channel = new Channel({
      filters: unique,
      shared,
      format: encoding.format,
      limits,
      fanOut: this.#fanOut,
      counters,
      floor,
      id: (sequence) => eventId(epoch, sequence),
    })
    const entry: Entry<Message> = {
      key,
      channel,
      encoding,
      ready: source.add(channel, unique, qos),
      holds: new Set(),
      joining: new Set(),
      linger: undefined,
      farewell: undefined,
    }
    this.#entries.set(key, entry)
    this.#byChannel.set(channel, entry)
    entry.ready.catch(() => this.#end(entry))
    return entry
  }

  #join(
    entry: Entry<Message>,
    hold: Hold<Message>,
    response: Writable,
    { slow, lastEventId, first, until }: JoinOptions<Message>,
  ): void {
    const { counters } = this.#options
    const { channel, encoding } = entry
    entry.joining.delete(hold)
    const { position, missing } =
      lastEventId === undefined
        ? { position: hold.position }
        : locate(channel, lastEventId, this.#options.epoch, this.#sequence)
    const reader = new Reader(response, {
      slow,
      position,
      until,
      onDrain: () => this.#advance(channel, reader),
      onClose: (reason) => {
        channel.readers.delete(reader)
        counters.closed(encoding.format.name, reason)
        hold.release()
      },
      onWrite: (events, bytes) => counters.wrote(events, bytes),
    })
    counters.opened(encoding.format.name)
    if (entry.farewell !== undefined) return reader.close(entry.farewell.reason, entry.farewell.text())
    channel.readers.add(reader)
    if (channel.isShared) this.#queues.admit(channel, reader)
    if (lastEventId !== undefined) counters.resumed(missing ?? 'resumed')
    const status = this.#connected ? undefined : JSON.stringify(statusOf(false))
    const bookmark = lastEventId === undefined ? hold.sequence : undefined
    reader.begin(opening(channel, { missing, status, first, text: encoding.data, bookmark }))
    this.#advance(channel, reader)
  }

  /** Writes to a reader what there is for it. */
  #advance(channel: Channel, reader: Reader): void {
    if (channel.isShared) this.#queues.distribute(channel)
    else channel.advance(reader)
  }

  #append(channel: Channel, message: Message, sequence: number, frames: Map<string, Buffer>): void {
    const entry = this.#byChannel.get(channel)
    if (entry === undefined) return
    const { name, data } = entry.encoding
    let bytes = frames.get(name)
    if (bytes === undefined) frames.set(name, (bytes = channel.encode('message', sequence, data(message))))
    channel.append({ sequence, bytes, topic: message.topic })
    for (const hold of entry.joining) hold.saw(message)
  }

  #broadcast(event: EventName, channels: Iterable<Channel>, data: object): void {
    const sequence = (this.#sequence += 1)
    const text = JSON.stringify(data)
    for (const channel of channels) channel.broadcast(event, { sequence, bytes: channel.encode(event, sequence, text) })
  }

  #beat(): void {
    for (const { channel } of this.#entries.values()) {
      for (const reader of channel.readers) reader.heartbeat(channel.format.heartbeat, this.#options.stallMs)
    }
  }

  #release(entry: Entry<Message>, hold: Hold<Message>): void {
    entry.joining.delete(hold)
    if (!entry.holds.delete(hold) || entry.holds.size > 0 || this.#entries.get(entry.key) !== entry) return
    entry.linger = setTimeout(() => this.#end(entry), this.#options.lingerMs)
  }

  #end(entry: Entry<Message>, farewell?: Ending): void {
    clearTimeout(entry.linger)
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key)
    if (this.#byChannel.delete(entry.channel)) this.#options.source.remove(entry.channel, entry.channel.filters)
    this.#queues.prune()
    if (farewell === undefined) return
    entry.farewell = farewell
    for (const reader of entry.channel.readers) reader.close(farewell.reason, farewell.text())
  }
}

const statusOf = (connected: boolean): object => ({ broker: connected ? 'connected' : 'disconnected' })
