import type { Writable } from 'node:stream'

/** A stream that the broker delivers to, before its response has begun. Call either `start` or `release`, once. */
export interface OpenedStream {
  /**
   * Streams to a response whose headers are written, until either side ends it.
   * @param signal ends the stream when aborted; its reason has to be a `StreamEnd`. Not aborted yet
   */
  start(response: Writable, signal?: AbortSignal): void
  /** Gives the stream up. */
  release(): void
}
