import type { Writable } from 'node:stream'
import type { Channel } from './channel.ts'

export type CloseReason = 'client' | 'refused' | 'shutdown'

/** The most one write takes from the log; with the socket's own buffer it is all the memory a stalled reader costs. */
const CHUNK_BYTES = 65_536

/** One HTTP response that follows a channel. It keeps no queue: while its socket is full it just stays behind in the log. */
export class Reader {
  readonly #channel: Channel
  readonly #response: Writable
  readonly #onClose: (reason: CloseReason) => void
  #position: number
  #full = false
  #closed = false

  /** Takes over the response: it is ended by `close`, or by its client. */
  constructor(channel: Channel, response: Writable, position: number, onClose: (reason: CloseReason) => void) {
    this.#channel = channel
    this.#response = response
    this.#position = position
    this.#onClose = onClose
    response.on('drain', () => {
      this.#full = false
      this.advance()
    })
    // `close` comes whatever ended the response; waiting for `drain` alone would miss a client that leaves while full.
    response.once('close', () => this.#end('client'))
    response.on('error', () => {})
  }

  /** Writes what is new, until there is no more or the socket is full. */
  advance(): void {
    const { log } = this.#channel
    while (!this.#full && !this.#closed) {
      if (this.#position < log.first) {
        const dropped = log.first - this.#position
        this.#position = log.first
        this.write(this.#channel.gap('overrun', dropped), 1)
      } else if (this.#position < log.next) {
        const { bytes, next } = this.#channel.read(this.#position, CHUNK_BYTES)
        const events = next - this.#position
        this.#position = next
        this.write(bytes, events)
      } else return
    }
  }

  /** Writes bytes that are for this reader alone. */
  write(bytes: Buffer, events = 0): void {
    if (bytes.length === 0 || this.#closed) return
    this.#channel.counters.wrote(events, bytes.length)
    if (!this.#response.write(bytes)) this.#full = true
  }

  /** A socket that is full needs no sign of life. */
  heartbeat(bytes: Buffer): void {
    if (!this.#full) this.write(bytes)
  }

  close(reason: CloseReason, farewell?: Buffer): void {
    if (this.#closed) return
    if (farewell !== undefined) this.write(farewell)
    // A socket that is full may never drain, and its response never end.
    if (this.#full) this.#response.destroy()
    else this.#response.end()
    this.#end(reason)
  }

  #end(reason: CloseReason): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(reason)
  }
}
