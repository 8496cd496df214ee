import type { Writable } from 'node:stream'
import type { MemoryShare } from '../../memory/account.ts'
import { catchUp } from '../catch-up.ts'
import { Channel } from '../channel.ts'
import type { StreamCounters } from '../counters.ts'
import type { Encoder, EventData, GapReason, StatusData, StreamMessage } from '../events.ts'
import { FanOut } from '../fan-out.ts'
import type { LogLimits } from '../log.ts'
import type { OpenedStream } from '../opened-stream.ts'
import { Reader, type SlowPolicy, type StreamEnd } from '../reader.ts'
import { reconnectDelayMs } from '../reconnect-delay.ts'
import { locate } from '../resume.ts'
import { type Beginning, join, type JoinPoint, type JoinSources } from './join.ts'
import { preambleOf } from './preamble.ts'
import { SubscribedChannel } from './subscribed-channel.ts'
import { WorkQueues } from './work-queues.ts'

/** The broker side of the streams. Its calls come back as `message`, `gap` and so on, see `SharedStreams`. */
export interface StreamSources<Message extends StreamMessage> extends JoinSources<Message> {
  subscriber(): ReturnType<JoinSources<Message>['subscriber']> & {
    /** Resolves once the broker has granted every filter. From then on their messages come for the channel. */
    add(subscribed: SubscribedChannel<Message>, filters: readonly string[], qos: 0 | 1 | 2): Promise<void>
    remove(subscribed: SubscribedChannel<Message>, filters: readonly string[]): void
  }
}

export interface StreamRequest<Message> {
  filters: readonly string[]
  /** Whether these are filters of shared subscriptions (`$share/GROUP/FILTER`): each message is for one reader only. */
  isSharedSubscription: boolean
  qos: 0 | 1 | 2
  encoder: Encoder<Message>
  slow: SlowPolicy
  /** Whether to begin with the retained messages; only where there is no last event id and no shared subscription. */
  retained: boolean
  lastEventId: string | undefined
}

/** Why the broker refused a subscription. */
export interface RefusedError extends Error {
  kind: { code: string }
}

export interface SharedStreamsOptions<Message extends StreamMessage> extends StreamSources<Message> {
  /** Names this process's events; without a dash. */
  epoch: string
  limits: LogLimits
  /** How long a subscription is kept after its last reader. */
  lingerMs: number
  heartbeatMs: number
  /** How long a reader's socket may stay full before its stream is closed. */
  stallMs: number
  counters: StreamCounters
  /** Called when the broker refuses filters that it granted before. */
  onRefused(error: RefusedError): void
}

/**
 * All streams without a session: their channels, and the one sequence of their events. Streams with the same filters,
 * QoS and encoding share a channel.
 *
 * The subscriber calls `received`, `message`, `shared`, `connected`, `gap` and `refused` directly.
 */
export class SharedStreams<Message extends StreamMessage> {
  readonly #options: SharedStreamsOptions<Message>
  /** By key. */
  readonly #channels = new Map<string, SubscribedChannel<Message>>()
  readonly #queues: WorkQueues<Message>
  readonly #fanOut = new FanOut()
  readonly #heartbeat: NodeJS.Timeout
  #sequence = 0
  #isBrokerConnected = true

  constructor(options: SharedStreamsOptions<Message>) {
    this.#options = options
    this.#queues = new WorkQueues(options.limits)
    this.#heartbeat = setInterval(() => this.#sendHeartbeats(), options.heartbeatMs)
  }

  /**
   * Resolves once the broker delivers, and the retained messages are read; see `join` for that and for its errors.
   * @param share pays for what has to be remembered meanwhile
   */
  async open(request: StreamRequest<Message>, share: MemoryShare): Promise<OpenedStream> {
    const { isSharedSubscription, retained, lastEventId } = request
    const subscribed = this.#channelFor(request)
    const release = subscribed.use()
    try {
      const wantsRetained = retained && !isSharedSubscription && lastEventId === undefined
      const { subscriber, retained: source } = this.#options
      const point = await join(subscribed, wantsRetained, {
        subscriber,
        retained: source,
        share,
        newestSequence: () => this.#sequence,
      })
      return {
        start: (response, signal) => this.#start(subscribed, request, point, release, response, signal),
        release,
      }
    } catch (error) {
      release()
      throw error
    }
  }

  /** A message arrived from the broker, as yet for nobody. */
  received({ qos, payload }: Message): void {
    this.#options.counters.received(qos, payload.length)
  }

  /** A message for each of these channels. It is encoded once for all channels whose encoders have the same name. */
  message(message: Message, channels: Iterable<SubscribedChannel<Message>>): void {
    const sequence = (this.#sequence += 1)
    const encoded = new Map<string, Buffer>()
    for (const subscribed of channels) {
      if (subscribed.isClosed) continue
      const { channel, encoder, recordings } = subscribed
      let bytes = encoded.get(encoder.name)
      if (bytes === undefined) encoded.set(encoder.name, (bytes = subscribed.encodeMessage(sequence, message)))
      channel.append({ sequence, bytes, topic: message.topic })
      for (const live of recordings) live.record(message)
    }
  }

  /** A message for one reader of these channels: a set that stays the same one as long as the shared subscription. */
  shared(message: Message, channels: ReadonlySet<SubscribedChannel<Message>>): void {
    this.#queues.push(channels, {
      sequence: (this.#sequence += 1),
      message,
      bytes: message.topic.length + message.payload.length,
    })
  }

  /** The broker connection was lost or is back. */
  connected(isConnected: boolean, channels: Iterable<SubscribedChannel<Message>>): void {
    this.#isBrokerConnected = isConnected
    this.#broadcast('status', statusOf(isConnected), channels)
  }

  /** Messages of these channels may be missing. */
  gap(reason: GapReason, channels: Iterable<SubscribedChannel<Message>>): void {
    this.#broadcast('gap', { reason }, channels)
    for (const { channel } of channels) for (const _reader of channel.readers) this.#options.counters.gap(reason, 0)
  }

  /** The broker refuses a filter of these channels that it granted before: their streams end. */
  refused(error: RefusedError, channels: Iterable<SubscribedChannel<Message>>): void {
    this.#options.onRefused(error)
    for (const subscribed of channels) {
      if (subscribed.isClosed) continue
      const gap = subscribed.channel.encode('gap', (this.#sequence += 1), {
        reason: 'subscription-refused',
        detail: error.message,
      })
      const lastBytes = (): Buffer => {
        this.#options.counters.gap('subscription-refused', 0)
        return gap
      }
      this.#end(subscribed, { reason: 'refused', lastBytes })
    }
  }

  /** Ends every stream, and asks each client to reconnect after a time of its own. */
  close(): void {
    clearInterval(this.#heartbeat)
    for (const subscribed of this.#channels.values()) {
      const { format } = subscribed.encoder
      this.#end(subscribed, { reason: 'shutdown', lastBytes: () => format.retry(reconnectDelayMs()) })
    }
  }

  #channelFor(request: StreamRequest<Message>): SubscribedChannel<Message> {
    const { encoder, qos } = request
    const filters = [...new Set(request.filters)]
    const key = JSON.stringify([encoder.name, qos, ...filters.toSorted()])
    return this.#channels.get(key) ?? this.#createChannel(key, filters, request)
  }

  #createChannel(
    key: string,
    filters: readonly string[],
    { isSharedSubscription, qos, encoder }: StreamRequest<Message>,
  ): SubscribedChannel<Message> {
    const { epoch, limits, lingerMs, counters, subscriber } = this.#options
    const subscribed = new SubscribedChannel<Message>({
      key,
      filters,
      encoder,
      channel: new Channel({
        format: encoder.format,
        limits,
        epoch,
        // A sequence of its own: an id from before this channel must not pass for one of its events.
        baseSequence: (this.#sequence += 1),
        isSharedSubscription,
        fanOut: this.#fanOut,
        counters,
      }),
      lingerMs,
      onUnused: (unused) => this.#end(unused),
    })
    this.#channels.set(key, subscribed)
    subscribed.granted = subscriber().add(subscribed, filters, qos)
    subscribed.granted.catch(() => this.#end(subscribed))
    return subscribed
  }

  #start(
    subscribed: SubscribedChannel<Message>,
    { slow, lastEventId }: StreamRequest<Message>,
    joined: JoinPoint<Message>,
    release: () => void,
    response: Writable,
    signal: AbortSignal | undefined,
  ): void {
    const { counters } = this.#options
    const { channel, encoder, end } = subscribed
    const resumed = lastEventId === undefined ? undefined : locate(channel, lastEventId, this.#sequence)
    const reader = new Reader(response, {
      slow,
      position: (resumed ?? joined).position,
      signal,
      counters,
      onDrain: () => this.#advance(subscribed, reader),
      onClose: (reason) => {
        channel.readers.delete(reader)
        counters.closed(encoder.format.name, reason)
        release()
      },
    })
    counters.opened(encoder.format.name)
    if (end !== undefined) return reader.close(end.reason, end.lastBytes())
    channel.readers.add(reader)
    if (channel.isSharedSubscription) this.#queues.addReader(subscribed, reader)
    if (resumed !== undefined) counters.resumed(resumed.missing ?? 'resumed')
    const begin = ({ retained, missing }: Beginning<Message>): void => {
      reader.begin(
        preambleOf(channel, encoder, {
          missing: resumed?.missing ?? missing,
          status: this.#isBrokerConnected ? undefined : statusOf(false),
          retained,
          startSequence: resumed === undefined ? joined.sequence : undefined,
        }),
      )
      this.#advance(subscribed, reader)
    }
    if (joined.later === undefined) return begin(joined)
    reader.hold()
    void joined.later.then(begin)
  }

  /** Writes to a reader what there is for it. */
  #advance(subscribed: SubscribedChannel<Message>, reader: Reader): void {
    if (subscribed.channel.isSharedSubscription) this.#queues.distribute(subscribed)
    else catchUp(subscribed.channel, reader)
  }

  #broadcast<Name extends 'gap' | 'status'>(
    event: Name,
    data: EventData[Name],
    channels: Iterable<SubscribedChannel<Message>>,
  ): void {
    const sequence = (this.#sequence += 1)
    for (const { channel } of channels) {
      channel.broadcast(event, { sequence, bytes: channel.encode(event, sequence, data) })
    }
  }

  #sendHeartbeats(): void {
    for (const { channel } of this.#channels.values()) {
      for (const reader of channel.readers) reader.heartbeat(channel.format.heartbeat, this.#options.stallMs)
    }
  }

  #end(subscribed: SubscribedChannel<Message>, end?: StreamEnd): void {
    if (subscribed.isClosed) return
    subscribed.close()
    subscribed.end = end
    this.#channels.delete(subscribed.key)
    this.#options.subscriber().remove(subscribed, subscribed.filters)
    this.#queues.prune()
    if (end === undefined) return
    for (const reader of subscribed.channel.readers) reader.close(end.reason, end.lastBytes())
  }
}

const statusOf = (isConnected: boolean): StatusData => ({ broker: isConnected ? 'connected' : 'disconnected' })
