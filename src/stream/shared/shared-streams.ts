import type { Writable } from 'node:stream'
import type { MemoryAccount, MemoryShare } from '../../memory/account.ts'
import { catchUp } from '../catch-up.ts'
import type { Channel } from '../channel.ts'
import type { StreamCounters } from '../counters.ts'
import type { Encoder, EventData, GapReason, StatusData, StreamMessage } from '../events.ts'
import { FanOut } from '../fan-out.ts'
import type { LogLimits } from '../log.ts'
import { NoRoom } from '../no-room.ts'
import type { OpenedStream } from '../opened-stream.ts'
import { Reader, type SlowPolicy, type StreamEnd } from '../reader.ts'
import { reconnectDelayMs } from '../reconnect-delay.ts'
import { locate } from '../resume.ts'
import { SlabPool, type StoredFrame } from '../slab.ts'
import { join, type JoinPoint, type JoinSources } from './join.ts'
import { Lingering } from './lingering.ts'
import { openingOf, preambleOf } from './preamble.ts'
import { RetainedPieces } from './retained-pieces.ts'
import { RetainedUse } from './retained-use.ts'
import { SubscribedChannel } from './subscribed-channel.ts'
import { WorkQueues } from './work-queues.ts'

/** The broker side of the streams. Its calls come back as `message`, `gap` and so on, see `SharedStreams`. */
export interface StreamSources<Message extends StreamMessage> extends JoinSources<Message> {
  subscriber(): ReturnType<JoinSources<Message>['subscriber']> & {
    /** Resolves once the broker has granted every filter. From then on their messages come for the channel. */
    add(subscribed: SubscribedChannel<Message>, filters: readonly string[], qos: 0 | 1 | 2): Promise<void>
    remove(subscribed: SubscribedChannel<Message>, filters: readonly string[]): void
    /** The lowest QoS that the broker granted for any of these filters; undefined where none is granted now. */
    grantedQoS(filters: readonly string[]): 0 | 1 | 2 | undefined
  }
}

export interface StreamRequest<Message> {
  filters: readonly string[]
  /** Whether these are filters of shared subscriptions (`$share/GROUP/FILTER`): each message is for one reader only. */
  isSharedSubscription: boolean
  qos: 0 | 1 | 2
  encoder: Encoder<Message>
  slow: SlowPolicy
  /**
   * Whether to begin with the retained messages. Not done for a shared subscription, nor for a reader that continues
   * after an event that is known here.
   */
  retained: boolean
  lastEventId: string | undefined
  /** How many channels of this caller may linger. Each costs time with every message that matches it. */
  lingeringMax: number
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
  memory: MemoryAccount
  /** Bytes that a message holds in memory. */
  sizeOf(message: Message): number
  /** Called when the broker refuses filters that it granted before. */
  onRefused(error: RefusedError): void
  /** Called with an unexpected error. It has ended some streams; all others go on. */
  onFault(error: unknown): void
}

/** Roughly what a stream takes, besides what its client has not read. */
const STREAM_BYTES = 4096
const NO_ROOM_FOR_RETAINED = { retained: [], missing: 'retained-unknown' } as const
/** How often frames that a log pays for, and only others hold, are counted for those. */
const TAKE_OVER_MS = 1000

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
  readonly #slabs = new SlabPool()
  readonly #pieces = new RetainedPieces<Message>()
  readonly #heartbeat: NodeJS.Timeout
  readonly #lingering = new Lingering<Message>()
  readonly #keepAll: () => void
  #takenOverAtMs = -Infinity
  #sequence = 0
  #isBrokerConnected = true

  constructor(options: SharedStreamsOptions<Message>) {
    this.#options = options
    this.#queues = new WorkQueues(options.limits)
    this.#heartbeat = setInterval(() => this.#sendHeartbeats(), options.heartbeatMs)
    this.#keepAll = options.memory.onShortage((bytes, share) => this.#reclaim(bytes, share))
  }

  /**
   * Resolves once the broker delivers, and the retained messages are read; see `join` for that and for its errors.
   * @param share whose memory the stream takes
   * @throws NoRoom
   */
  async open(request: StreamRequest<Message>, share: MemoryShare): Promise<OpenedStream> {
    if (!share.take('streams', STREAM_BYTES)) throw new NoRoom()
    const retainedUse = new RetainedUse<Message>(share.hold('joins'))
    let stopUsing = () => {}
    const release = (): void => {
      stopUsing()
      retainedUse.release()
      share.give('streams', STREAM_BYTES)
    }
    try {
      const subscribed = this.#channelFor(request, share)
      stopUsing = subscribed.use(share)
      const { subscriber, retained } = this.#options
      const point = await join(subscribed, this.#wantsRetained(subscribed, request), {
        subscriber,
        retained,
        share,
        newestSequence: () => this.#sequence,
      })
      if (!retainedUse.begin(point)) throw new NoRoom()
      return {
        start: (response, signal) =>
          this.#start(subscribed, request, point, { share, release, retainedUse }, response, signal),
        release,
      }
    } catch (error) {
      release()
      throw error
    }
  }

  /**
   * What the readers that are behind have still to get, each as a part of its log, from 0 to 1; and the same of work
   * queues, whose readers share it. At 1 the next message makes a `gap`. Looks at every reader.
   */
  get lags(): number[] {
    const lags = this.#queues.fills
    for (const { channel } of this.#channels.values()) {
      const { log, isSharedSubscription, readers } = channel
      if (isSharedSubscription) continue
      for (const { position } of readers) if (position < log.end) lags.push(log.partFrom(position))
    }
    return lags
  }

  #wantsRetained(
    { channel }: SubscribedChannel<Message>,
    { retained, isSharedSubscription, lastEventId }: StreamRequest<Message>,
  ): boolean {
    if (!retained || isSharedSubscription) return false
    return lastEventId === undefined || locate(channel, lastEventId, this.#sequence).lacksRetained
  }

  /** A message arrived from the broker, as yet for nobody. */
  received(message: Message): void {
    this.#options.counters.received(message)
  }

  /**
   * A message for each of these channels. It becomes one frame for all channels whose encoders have the same name. One
   * of them pays for its memory, each time another one.
   */
  message(message: Message, channels: ReadonlySet<SubscribedChannel<Message>>): void {
    const sequence = (this.#sequence += 1)
    const payers = channels.size > 1 ? payersOf(channels, sequence) : undefined
    const frames = new Map<string, { stored: StoredFrame; payer: Channel }>()
    for (const subscribed of channels) {
      if (subscribed.isClosed) continue
      const { channel, encoder, recordings } = subscribed
      try {
        let shared = frames.get(encoder.name)
        if (shared === undefined) {
          const payer = payers?.get(encoder.name) ?? channel
          shared = { stored: payer.log.store(subscribed.frameOf(sequence, message)), payer }
          frames.set(encoder.name, shared)
        }
        channel.append(shared.stored)
        if (shared.stored.frame.topic === undefined) this.#countGap('message-too-large', channel, 1)
        for (const live of recordings) live.record(message)
      } catch (error) {
        this.#fail(subscribed, error)
      }
    }
    for (const { stored, payer } of frames.values()) payer.pay(stored.slab)
  }

  /** A message for one reader of these channels: a set that stays the same one as long as the shared subscription. */
  shared(message: Message, channels: ReadonlySet<SubscribedChannel<Message>>): void {
    this.#queues.push(channels, {
      sequence: (this.#sequence += 1),
      message,
      bytes: this.#options.sizeOf(message),
      arrivedMs: performance.now(),
    })
  }

  /** The broker connection was lost or is back. */
  connected(isConnected: boolean, channels: Iterable<SubscribedChannel<Message>>): void {
    this.#isBrokerConnected = isConnected
    this.#broadcast('status', (subscribed) => this.#statusOf(subscribed), channels)
  }

  /** Messages of these channels may be missing. */
  gap(reason: GapReason, channels: Iterable<SubscribedChannel<Message>>): void {
    this.#broadcast('gap', () => ({ reason }), channels)
    for (const { channel } of channels) this.#countGap(reason, channel, 0)
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
    this.#keepAll()
    for (const subscribed of this.#channels.values()) {
      const { format } = subscribed.encoder
      this.#end(subscribed, { reason: 'shutdown', lastBytes: () => format.retry(reconnectDelayMs()) })
    }
  }

  #channelFor(request: StreamRequest<Message>, share: MemoryShare): SubscribedChannel<Message> {
    const { encoder, qos } = request
    const filters = [...new Set(request.filters)]
    const key = JSON.stringify([encoder.name, qos, ...filters.toSorted()])
    return this.#channels.get(key) ?? this.#createChannel(key, filters, request, share)
  }

  #createChannel(
    key: string,
    filters: readonly string[],
    { isSharedSubscription, qos, encoder, lingeringMax }: StreamRequest<Message>,
    share: MemoryShare,
  ): SubscribedChannel<Message> {
    const { epoch, limits, lingerMs, counters, subscriber } = this.#options
    const subscribed = new SubscribedChannel<Message>({
      key,
      filters,
      qos,
      share,
      encoder,
      channel: {
        limits,
        epoch,
        // A sequence of its own: an id from before this channel must not pass for one of its events.
        baseSequence: (this.#sequence += 1),
        isSharedSubscription,
        slabs: this.#slabs,
        fanOut: this.#fanOut,
        counters,
      },
      lingerMs,
      lingering: this.#lingering,
      onIdle: ({ share: { name } }) => {
        if (this.#lingering.countOf(name) > lingeringMax) this.#end(this.#lingering.longest(name)!)
      },
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
    { share, release, retainedUse }: { share: MemoryShare; release: () => void; retainedUse: RetainedUse<Message> },
    response: Writable,
    signal: AbortSignal | undefined,
  ): void {
    const { counters, onFault } = this.#options
    const pieces = this.#pieces
    const { channel, encoder, end } = subscribed
    const resumed = lastEventId === undefined ? undefined : locate(channel, lastEventId, this.#sequence)
    const reader = new Reader(response, {
      slow,
      position: (resumed ?? joined).position,
      signal,
      counters,
      held: share.hold('streams'),
      onFault,
      onDrain: () => this.#advance(subscribed, reader),
      onClose: (reason) => {
        channel.readers.delete(reader)
        counters.closed(encoder.format.name, reason)
        release()
      },
    })
    counters.opened(encoder.format.name)
    if (end !== undefined) return reader.end(end)
    channel.readers.add(reader)
    if (channel.isSharedSubscription) this.#queues.addReader(subscribed, reader)
    if (resumed !== undefined) counters.resumed(resumed.missing ?? 'resumed')
    const { sequence } = resumed ?? joined
    const opening = openingOf(channel, {
      status: this.#statusOf(subscribed),
      missing: resumed?.missing,
      sequence,
      lacksRetained: joined.later !== undefined || joined.retained.length > 0,
    })
    if (joined.later === undefined) {
      reader.begin(preambleOf(channel, encoder, { ...joined, opening, pieces, retainedUse, sequence }))
      return this.#advance(subscribed, reader)
    }
    reader.write(opening.bytes, opening.events)
    reader.hold()
    void joined.later.then((later) => {
      const beginning = retainedUse.begin(later) ? later : NO_ROOM_FOR_RETAINED
      reader.begin(preambleOf(channel, encoder, { ...beginning, opening: undefined, pieces, retainedUse, sequence }))
      this.#advance(subscribed, reader)
    })
  }

  /** Writes to a reader what there is for it. */
  #advance(subscribed: SubscribedChannel<Message>, reader: Reader): void {
    if (subscribed.channel.isSharedSubscription) this.#queues.distribute(subscribed)
    else catchUp(subscribed.channel, reader)
  }

  #broadcast<Name extends 'gap' | 'status'>(
    event: Name,
    dataFor: (subscribed: SubscribedChannel<Message>) => EventData[Name],
    channels: Iterable<SubscribedChannel<Message>>,
  ): void {
    const sequence = (this.#sequence += 1)
    for (const subscribed of channels) {
      const { channel, isClosed } = subscribed
      if (!isClosed) channel.broadcast(event, { sequence, bytes: channel.encode(event, sequence, dataFor(subscribed)) })
    }
  }

  #statusOf({ filters, qos }: SubscribedChannel<Message>): StatusData {
    if (!this.#isBrokerConnected) return { broker: 'disconnected' }
    const granted = this.#options.subscriber().grantedQoS(filters)
    return { broker: 'connected', ...(granted !== undefined && granted < qos && { qos: granted }) }
  }

  /** Counts a gap for each reader of a channel. */
  #countGap(reason: GapReason, { readers }: Channel, dropped: number): void {
    for (const _reader of readers) this.#options.counters.gap(reason, dropped)
  }

  /** A channel could not take a message. Its readers come back, and are told that messages are missing. */
  #fail(subscribed: SubscribedChannel<Message>, error: unknown): void {
    this.#options.onFault(error)
    const { format } = subscribed.encoder
    this.#end(subscribed, { reason: 'failed', lastBytes: () => format.retry(reconnectDelayMs()) })
  }

  /** Frees memory: what is kept for readers that may come back or are slow. */
  #reclaim(bytes: number, share: MemoryShare | undefined): void {
    for (let freed = 0; freed < bytes;) {
      const longest = this.#lingering.longest(share?.name)
      if (longest === undefined) break
      freed += longest.heldBytes
      this.#end(longest)
    }
    if (share === undefined || share.mayTake(bytes)) return
    const channels = [...this.#channels.values()]
    // This looks at every frame there is.
    if (performance.now() - this.#takenOverAtMs > TAKE_OVER_MS) {
      this.#takenOverAtMs = performance.now()
      for (const { channel } of channels) channel.log.takeOver(share)
    }
    // The largest first. In any fixed order the first ones would be empty after a while, and each message would bring
    // everybody here, to free no more than that message takes.
    const own = channels.filter(({ share: payer }) => payer.name === share.name).map(({ channel }) => channel)
    own.sort((a, b) => b.log.bytes - a.log.bytes)
    for (const isLastResort of [false, true]) {
      for (const channel of own) {
        if (share.mayTake(bytes)) return
        // Only what is not written yet takes so much. A socket that becomes full now finds no room, and is cut.
        if (isLastResort) channel.writeAll()
        channel.shrink(channel.log.bytes / 2)
      }
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
    this.#queues.channelsChanged()
    if (end === undefined) return
    for (const reader of subscribed.channel.readers) reader.end(end)
  }
}

/** Of the channels whose encoders have the same name, the one that pays for a message: each time another one. */
function payersOf<Message extends StreamMessage>(
  channels: ReadonlySet<SubscribedChannel<Message>>,
  sequence: number,
): Map<string, Channel> {
  const payers = new Map<string, Channel>()
  let untilPayer = sequence % channels.size
  for (const { channel, encoder, isClosed } of channels) {
    if (isClosed) continue
    if (untilPayer === 0 || !payers.has(encoder.name)) payers.set(encoder.name, channel)
    untilPayer -= 1
  }
  return payers
}
