import { randomBytes } from 'node:crypto'
import type { Writable } from 'node:stream'
import { catchUp } from '../catch-up.ts'
import { Channel } from '../channel.ts'
import type { StreamCounters } from '../counters.ts'
import { parseEventId } from '../event-id.ts'
import type {
  AckMode,
  CloseReason,
  Encoder,
  EventData,
  EventName,
  GapReason,
  SessionData,
  StreamMessage,
} from '../events.ts'
import { FanOut } from '../fan-out.ts'
import type { Held, MemoryShare } from '../../memory/account.ts'
import type { LogLimits } from '../log.ts'
import type { OpenedStream } from '../opened-stream.ts'
import { type PreamblePart, Reader, type StreamEnd } from '../reader.ts'
import { locate } from '../resume.ts'
import { Intake, type IntakeBroker } from './intake.ts'
import type { LoggedEvent, WindowLimits } from './window.ts'

export interface SessionMessage extends StreamMessage {
  /** The broker sent it again: a reader may have had it. */
  redelivered?: boolean | undefined
}

/** The session at the broker. It calls `message`, `lost` and so on of the `SessionEvents` that it was created with. */
export interface BrokerSession<Message> extends IntakeBroker<Message> {
  /** State of its connection; undefined while it is closed. */
  readonly state: string | undefined
  /**
   * Connects and resolves once the broker delivers. Rejects where it refuses or is away.
   * `present`: the broker had the session already. `expiryS`: for how long it keeps it, in seconds.
   */
  open(): Promise<{ present: boolean; expiryS: number | undefined }>
  /** Disconnects. The broker keeps the session. */
  close(): Promise<void>
  /** Makes the broker forget the session. Resolves with whether the broker had it. */
  end(): Promise<boolean>
}

/** What happens to the session at the broker. */
export type SessionEvents<Message extends SessionMessage> = Pick<
  SessionStream<Message>,
  'message' | 'lost' | 'forgotten' | 'restored' | 'queueOverflowed' | 'refused' | 'takenOver'
>

export interface SessionRequest<Message> {
  /** Of the session at the broker: the same for the same caller, name and filters. */
  id: string
  name: string
  filters: readonly string[]
  /** Whether retained messages become part of a new session. */
  retained: boolean
  ack: AckMode
  encoder: Encoder<Message>
  /** Pays for what is held for the reader. */
  share: MemoryShare
}

export interface SessionStreamOptions<Message extends SessionMessage> {
  request: SessionRequest<Message>
  /** Names this process's events; without a dash. */
  epoch: string
  /** The event that the reader got last from a stream that is not open here, possibly of another process. */
  resumesFrom: string | undefined
  /** Whether the last reader of the session, as far as is known, was a reader of this process. */
  wasOpenHere: boolean
  log: LogLimits
  window: WindowLimits
  /** Bytes that a message takes in memory. */
  sizeOf(message: Message): number
  /** How long the session stays open here without its reader. */
  lingerMs: number
  counters: StreamCounters
  connect(
    session: Pick<SessionRequest<Message>, 'id' | 'filters' | 'retained'>,
    events: SessionEvents<Message>,
  ): BrokerSession<Message>
  /** Called once the session is not open here any more. */
  onEnded(reason: SessionEndReason): void
}

/** `unused`: the reader was away for longer than the linger, or never began to read. */
export type SessionEndReason = 'unused' | Extract<CloseReason, 'taken-over' | 'refused' | 'deleted' | 'shutdown'>

/** A session that is open here, as `GET /sessions` shows it. */
export interface SessionInfo {
  id: string
  name: string
  filters: string[]
  ack: AckMode
  /** Whether its reader is connected. */
  connected: boolean
  unacknowledged: number
}

/** Roughly what an open session takes in memory without its messages: an MQTT client and its socket. */
export const SESSION_BYTES = 32_768

/** Length of the part of an epoch that names one session's stream. */
const STREAM_ID_BYTES = 8

/**
 * A durable session that is open in this process: the session at the broker, and the stream to its one reader over all
 * of the reader's connections. The messages have a channel, and so a log, of their own.
 */
export class SessionStream<Message extends SessionMessage> {
  readonly request: SessionRequest<Message>
  /** First part of its event ids. It differs from that of every other session's stream, as each has one reader. */
  readonly epoch: string
  readonly #options: SessionStreamOptions<Message>
  readonly #broker: BrokerSession<Message>
  readonly #channel: Channel
  readonly #intake: Intake<Message>
  readonly #held: Held
  #reader: Reader | undefined
  #sequence = 0
  /** What the broker said when it was connected to last. */
  #opened: { present: boolean; expiryS: number | undefined } | undefined
  #linger: NodeJS.Timeout | undefined
  #hadReader = false
  #hadMessage = false
  #isReplacedHere = false
  /** The broker had the session before it was opened here. */
  #wasPresent = false
  /** Streams that are opened, and neither started nor released yet. */
  #starting = 0
  #isBrokerAway = false
  #isEnded = false
  /** How the stream ended. Readers that start after that are told the same. */
  #end: StreamEnd | undefined

  constructor(options: SessionStreamOptions<Message>) {
    const { request, log, window, counters, sizeOf } = options
    this.#options = options
    this.request = request
    this.epoch = options.epoch + randomBytes(STREAM_ID_BYTES).toString('hex')
    this.#channel = new Channel({
      format: request.encoder.format,
      limits: log,
      epoch: this.epoch,
      baseSequence: 0,
      isSharedSubscription: false,
      fanOut: new FanOut(),
      counters,
    })
    this.#broker = options.connect(request, this)
    this.#intake = new Intake<Message>({
      ...window,
      sizeOf,
      held: request.share.hold('sessions'),
      broker: this.#broker,
      deliver: (message) => this.#append('message', request.encoder.messageData(message), message.topic),
      lost: (count) => this.#gap('overrun', count),
    })
    this.#held = request.share.hold('sessions')
    this.#held.growAnyway(SESSION_BYTES)
  }

  get brokerState(): string | undefined {
    return this.#broker.state
  }

  get info(): SessionInfo {
    const { id, name, filters, ack } = this.request
    return {
      id,
      name,
      filters: [...filters],
      ack,
      connected: this.#reader !== undefined,
      unacknowledged: this.unacknowledged,
    }
  }

  /** Whether a message ever came for it here, or may have come before. */
  get isUsed(): boolean {
    return this.#hadMessage || this.#wasPresent
  }

  /** Whether a reader is connected, or about to be. */
  get isTaken(): boolean {
    return this.#starting > 0 || this.#reader !== undefined
  }

  /** Messages that may be with the reader unacknowledged. */
  get unacknowledged(): number {
    return this.#intake.unacknowledged
  }

  /** Whether the reader that got this event last is the reader of this session. */
  isReaderOf(lastEventId: string): boolean {
    return this.#sequenceOf(lastEventId) !== undefined || lastEventId === this.#options.resumesFrom
  }

  /**
   * Resolves once the broker delivers.
   * @throws the broker's error where it refuses or is away. Then the session ends, unless its reader was here before
   */
  async open(lastEventId: string | undefined): Promise<OpenedStream> {
    clearTimeout(this.#linger)
    this.#starting += 1
    const opened: OpenedStream = {
      start: (response, signal) => this.#start(response, lastEventId, signal),
      release: () => this.#release(),
    }
    if (this.#reader !== undefined) return opened
    try {
      this.#opened = await this.#broker.open()
      if (!this.#hadReader && this.#opened.present) this.#wasPresent = true
      return opened
    } catch (error) {
      this.#release()
      throw error
    }
  }

  /**
   * Acknowledges every message up to an event. Returns how many were not acknowledged before; undefined where this
   * stream has no such event.
   */
  acknowledge(eventId: string): number | undefined {
    const upTo = this.#sequenceOf(eventId)
    return upTo === undefined ? undefined : this.#intake.acknowledgeWhile(({ sequence }) => sequence <= upTo)
  }

  /** Whether a reader of this process has taken the session over from the reader of this stream. */
  get isReplacedHere(): boolean {
    return this.#isReplacedHere
  }

  /** Ends the stream because another reader of this process takes the session over. */
  replace(): Promise<void> {
    this.#isReplacedHere = true
    return this.end('taken-over')
  }

  /** Ends the stream, and tells the reader why. The broker keeps the session. */
  end(reason: 'taken-over' | 'deleted'): Promise<void> {
    return this.#close(reason, () => this.#channel.encode('status', undefined, { session: reason }))
  }

  /** Ends the stream, and asks the reader to come back after so many milliseconds. The broker keeps the session. */
  shutDown(reconnectMs: number): Promise<void> {
    return this.#close('shutdown', () => this.request.encoder.format.retry(reconnectMs))
  }

  /** Makes the broker forget the session. Resolves with whether the broker had it. */
  async forget(): Promise<boolean> {
    try {
      return await this.#broker.end()
    } finally {
      // While the broker cannot be reached, the session stays open, and the stream goes on.
      if (this.brokerState === undefined) await this.end('deleted')
    }
  }

  heartbeat(stallMs: number): void {
    this.#reader?.heartbeat(this.#channel.format.heartbeat, stallMs)
  }

  /** From the broker: a message, to be acknowledged or abandoned. */
  message(message: Message): void {
    const { counters } = this.#options
    this.#hadMessage = true
    counters.received(message)
    if (message.redelivered) counters.redelivered()
    this.#intake.message(message)
  }

  /** From the broker: the connection is lost. */
  lost(): void {
    this.#isBrokerAway = true
    this.#append('status', { broker: 'disconnected' })
  }

  /** From the broker, after `lost`: it did not keep the session. */
  forgotten(): void {
    this.#gap('broker-session-lost')
  }

  /** From the broker: it delivers again. */
  restored(): void {
    if (this.#isBrokerAway) this.#append('status', { broker: 'connected' })
    this.#isBrokerAway = false
  }

  /** From the broker: it may have dropped messages, as its queue for the session was full or nearly so. */
  queueOverflowed(): void {
    this.#gap('broker-queue')
  }

  /** From the broker: it refuses a filter that it granted before. */
  refused(error: Error): void {
    const reason = 'subscription-refused'
    this.#options.counters.gap(reason, 0)
    void this.#close('refused', () => this.#channel.encode('gap', undefined, { reason, detail: error.message }))
  }

  /** From the broker: another client has the session. */
  takenOver(): void {
    void this.end('taken-over')
  }

  /** Streams to a response, in place of the connection that the reader had before. */
  #start(response: Writable, lastEventId: string | undefined, signal: AbortSignal | undefined): void {
    const { counters } = this.#options
    const { ack, encoder } = this.request
    const channel = this.#channel
    const isKnownEvent = lastEventId !== undefined && this.#sequenceOf(lastEventId) !== undefined
    if (isKnownEvent && ack === 'explicit') this.acknowledge(lastEventId)
    const isUnknown = lastEventId === undefined && this.#isEarlierReaderUnknown
    const missing = isUnknown ? 'unknown-id' : lastEventId === undefined ? undefined : this.#missingAfter(isKnownEvent)
    if (lastEventId !== undefined) counters.resumed(missing ?? 'resumed')
    const session = { ...this.#sessionData(), ...(isUnknown && { unknown: true as const }) }
    this.#starting -= 1
    this.#hadReader = true
    this.#opened = { ...this.#opened!, present: true }

    this.#replaceReader()
    const from: { position: number; missing?: GapReason } = isKnownEvent
      ? locate(channel, lastEventId, this.#sequence)
      : { position: channel.log.start }
    const reader = new Reader(response, {
      slow: 'gap',
      position: from.position,
      signal,
      counters,
      onDrain: () => catchUp(channel, reader),
      onClose: (reason) => {
        channel.readers.delete(reader)
        counters.closed(encoder.format.name, reason)
        // A reader that was replaced, or ended by us, is not this one any more.
        if (this.#reader !== reader) return
        this.#reader = undefined
        this.#readerLeft()
      },
      ...(ack === 'auto' && {
        onFlushed: (flushed: number) => void this.#intake.acknowledgeWhile(({ position }) => position < flushed),
      }),
    })
    counters.opened(encoder.format.name)
    if (this.#end !== undefined) return reader.close(this.#end.reason, this.#end.lastBytes())
    this.#reader = reader
    channel.readers.add(reader)
    const sequence = isKnownEvent ? this.#sequenceOf(lastEventId) : channel.log.overwrittenUpTo
    reader.begin(preambleOf(channel, channel.encode('session', sequence, session), missing ?? from.missing))
    catchUp(channel, reader)
  }

  /**
   * With `ack=auto` a message is acknowledged once it has left for the socket of its reader. If the session was there
   * before this process had a reader of it, an earlier reader elsewhere may have broken off before it got them all.
   */
  get #isEarlierReaderUnknown(): boolean {
    return this.request.ack === 'auto' && !this.#hadReader && this.#opened!.present && !this.#options.wasOpenHere
  }

  /** Why messages after the reader's last event may be missing. */
  #missingAfter(isKnownEvent: boolean): GapReason | undefined {
    if (!this.#opened!.present) return 'broker-session-lost'
    // With explicit acknowledgements the broker sends again all that this reader has not acknowledged.
    return isKnownEvent || this.request.ack === 'explicit' ? undefined : 'unknown-id'
  }

  #sessionData(): SessionData {
    const { id, name, ack } = this.request
    const { present, expiryS } = this.#opened!
    return {
      id,
      name,
      present,
      unacknowledgedLimit: this.#options.window.messages,
      ack,
      ...(expiryS !== undefined && { expiry: expiryS }),
    }
  }

  #release(): void {
    this.#starting -= 1
    if (this.isTaken) return
    if (this.#hadReader) this.#readerLeft()
    else void this.#close('unused')
  }

  #replaceReader(): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.close('replaced')
  }

  /** The reader's connection is gone, and no other one has taken its place. */
  #readerLeft(): void {
    // A connection that is about to start continues from here.
    if (this.#isEnded || this.#starting > 0) return
    this.#isBrokerAway = false
    void this.#broker.close()
    this.#intake.disconnected()
    clearTimeout(this.#linger)
    this.#linger = setTimeout(() => this.#close('unused'), this.#options.lingerMs)
  }

  async #close(reason: SessionEndReason, lastBytes?: () => Buffer): Promise<void> {
    if (this.#isEnded) return
    this.#isEnded = true
    clearTimeout(this.#linger)
    this.#intake.release()
    this.#held.release()
    this.#options.onEnded(reason)
    if (reason !== 'unused' && lastBytes !== undefined) {
      this.#end = { reason, lastBytes }
      const reader = this.#reader
      this.#reader = undefined
      reader?.close(reason, lastBytes())
    }
    await this.#broker.close()
  }

  #gap(reason: GapReason, dropped = 0): void {
    this.#options.counters.gap(reason, dropped)
    this.#append('gap', { reason, ...(dropped > 0 && { dropped }) })
  }

  #append<Name extends EventName>(event: Name, data: EventData[Name], topic?: string): LoggedEvent {
    const { log } = this.#channel
    const sequence = (this.#sequence += 1)
    const position = log.end
    // A reader that comes back gets again what it has not acknowledged.
    log.pin(this.#intake.oldestPosition ?? position)
    const bytes = this.#channel.encode(event, sequence, data)
    this.#channel.add({ sequence, bytes, ...(topic !== undefined && { topic }) })
    return { sequence, position }
  }

  /** Undefined for an event that is none of this stream's. */
  #sequenceOf(id: string): number | undefined {
    const event = parseEventId(id)
    return event?.epoch === this.epoch && event.sequence <= this.#sequence ? event.sequence : undefined
  }
}

function* preambleOf(
  channel: Channel,
  session: Buffer,
  missing: GapReason | undefined,
): Generator<PreamblePart, undefined> {
  yield { bytes: session, events: 1 }
  if (missing !== undefined) yield { bytes: channel.gap(missing), events: 1 }
  return undefined
}
