import type { Writable } from 'node:stream'
import { Channel, type GapReason } from '../channel.ts'
import { eventId, parseEventId } from '../event-id.ts'
import type { EventName } from '../formats/format.ts'
import type { Encoding, StreamsCounters } from '../shared/shared-streams.ts'
import type { LogLimits } from '../log.ts'
import { type CloseReason, type Ending, type Opening, Reader } from '../reader.ts'
import { locate } from '../resume.ts'
import { FanOut } from '../fan-out.ts'
import { Window, type WindowLimits } from './window.ts'

/** When a message is done with: once it has left for the reader's socket, or once the reader says so. */
export type AckMode = 'auto' | 'explicit'

export interface SessionStreamOptions<Message> {
  filters: readonly string[]
  encoding: Encoding<Message>
  ack: AckMode
  /** Names this stream's events, and with them whose they are; no dash in it. */
  epoch: string
  log: LogLimits
  window: WindowLimits
  counters: StreamsCounters
  /** The reader is done with it. */
  done(message: Message): void
  /** The reader's connection is gone, and no other one took its place. */
  left(): void
}

export interface AttachOptions {
  /** Data of the first event. */
  about: object
  lastEventId: string | undefined
  /** Why messages may be missing before all that follows. */
  missing: GapReason | undefined
  /** As that of a `Reader`. */
  until: AbortSignal | undefined
}

/** A durable session as one reader sees it, over all of that reader's connections: a channel of its own. */
export class SessionStream<Message extends { topic: string; payload: Buffer }> {
  readonly #options: SessionStreamOptions<Message>
  readonly #channel: Channel
  readonly #window: Window<Message>
  #sequence = 0
  #reader: Reader | undefined
  #farewell: Ending | undefined

  constructor(options: SessionStreamOptions<Message>) {
    this.#options = options
    const { filters, encoding, log, counters, epoch, window } = options
    this.#channel = new Channel({
      filters,
      shared: false,
      format: encoding.format,
      limits: log,
      fanOut: new FanOut(),
      counters,
      floor: this.#sequence,
      id: (sequence) => eventId(epoch, sequence),
    })
    this.#window = new Window<Message>(window, (message) =>
      this.#append('message', encoding.data(message), message.topic),
    )
  }

  get epoch(): string {
    return this.#options.epoch
  }

  get hasReader(): boolean {
    return this.#reader !== undefined
  }

  /** Messages the reader may have and is not done with. */
  get unacknowledged(): number {
    return this.#window.size
  }

  /** More waits for room than is kept here. */
  get isOverfull(): boolean {
    return this.#window.isOverfull
  }

  get hasRoom(): boolean {
    return this.#window.hasRoom
  }

  deliver(message: Message): void {
    this.#window.push(message)
  }

  /** Drops what waits for room, and returns it. */
  dropWaiting(): Message[] {
    return this.#window.dropWaiting()
  }

  /** Whether an event is one of this stream's. */
  knows(id: string): boolean {
    return this.#sequenceOf(id) !== undefined
  }

  /** The reader is done with all up to this event. Returns how many messages that made, undefined for an unknown event. */
  acknowledge(id: string): number | undefined {
    const upTo = this.#sequenceOf(id)
    return upTo === undefined ? undefined : this.#done(({ sequence }) => sequence <= upTo)
  }

  /** Streams to a response whose headers are written, in place of the reader's connection before, until either side ends it. */
  attach(response: Writable, { about, lastEventId, missing, until }: AttachOptions): void {
    const { counters, encoding, ack, left, epoch } = this.#options
    const channel = this.#channel
    this.end('replaced')
    const from =
      lastEventId === undefined ? { position: channel.log.first } : locate(channel, lastEventId, epoch, this.#sequence)
    const reader = new Reader(response, {
      slow: 'gap',
      position: from.position,
      until,
      onDrain: () => channel.advance(reader),
      onClose: (reason) => {
        channel.readers.delete(reader)
        counters.closed(encoding.format.name, reason)
        if (this.#reader !== reader) return
        this.#reader = undefined
        left()
      },
      onWrite: (events, bytes) => counters.wrote(events, bytes),
      ...(ack === 'auto' && { onFlushed: (flushed: number) => void this.#done(({ position }) => position < flushed) }),
    })
    counters.opened(encoding.format.name)
    if (this.#farewell !== undefined) return reader.close(this.#farewell.reason, this.#farewell.text())
    this.#reader = reader
    channel.readers.add(reader)
    const sequence = (lastEventId === undefined ? undefined : this.#sequenceOf(lastEventId)) ?? channel.log.overwritten
    reader.begin(
      beginning(channel, channel.encode('session', sequence, JSON.stringify(about)), missing ?? from.missing),
    )
    channel.advance(reader)
  }

  /** Tells the reader, in order with its messages. */
  tell(event: 'status' | 'gap', data: object): void {
    this.#append(event, JSON.stringify(data))
  }

  gap(reason: GapReason, dropped = 0): void {
    this.#options.counters.gap(reason, dropped)
    this.tell('gap', { reason, ...(dropped > 0 && { dropped }) })
  }

  /** Ends the reader's connection; for good where there is something to say, which late comers are told too. */
  end(reason: CloseReason, text?: () => Buffer): void {
    const reader = this.#reader
    this.#reader = undefined
    if (text !== undefined) this.#farewell = { reason, text }
    reader?.close(reason, text?.())
  }

  heartbeat(stallMs: number): void {
    this.#reader?.heartbeat(this.#channel.format.heartbeat, stallMs)
  }

  /** An event behind all that there is, for `end`. */
  lastEvent(event: EventName, data: object): () => Buffer {
    return () => this.#channel.encode(event, undefined, JSON.stringify(data))
  }

  #append(event: EventName, data: string, topic?: string): { sequence: number; position: number } {
    const { log } = this.#channel
    const sequence = (this.#sequence += 1)
    const position = log.next
    // A reader that is not done with them may come back for them.
    log.pin(this.#window.first ?? position)
    this.#channel.append({
      sequence,
      bytes: this.#channel.encode(event, sequence, data),
      ...(topic !== undefined && { topic }),
    })
    return { sequence, position }
  }

  #done(isDone: (place: { sequence: number; position: number }) => boolean): number {
    const messages = this.#window.takeWhile(isDone)
    for (const message of messages) this.#options.done(message)
    return messages.length
  }

  #sequenceOf(id: string): number | undefined {
    const event = parseEventId(id)
    return event?.epoch === this.#options.epoch && event.sequence <= this.#sequence ? event.sequence : undefined
  }
}

function* beginning(channel: Channel, about: Buffer, missing: GapReason | undefined): Generator<Opening, undefined> {
  yield { bytes: about, events: 1 }
  if (missing !== undefined) yield { bytes: channel.gap(missing), events: 1 }
  return undefined
}
