import type { CloseReason, GapReason, StreamMessage } from './events.ts'

/** What is counted of streams, for the metrics. */
export interface StreamCounters {
  /** A message arrived from the broker; one for each copy, before it is known which streams it is for. */
  received(message: StreamMessage): void
  /** The broker sent a message of a durable session again. */
  redelivered(): void
  opened(format: string): void
  /** Called on each write to a stream, with the events in it. */
  wrote(events: number, bytes: number): void
  /** @param dropped messages that the reader did not get; 0 where their number is unknown */
  gap(reason: GapReason, dropped: number): void
  /** A reader came back with a last event id. */
  resumed(result: 'resumed' | GapReason): void
  closed(format: string, reason: CloseReason): void
}
