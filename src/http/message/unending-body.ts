import type { Readable } from 'node:stream'
import { CausewayError } from '../../errors.ts'
import { SmallPieces, tooManyPieces } from '../server/small-pieces.ts'

/** A body of unlimited length. It is read until the client ends it, sends nothing for `idleMs`, or `stop` is called. */
export class UnendingBody implements AsyncIterable<Buffer> {
  readonly #body: Readable
  readonly #idleMs: number
  #reason: CausewayError | undefined
  #onStop = () => {}

  constructor(body: Readable, idleMs: number) {
    this.#body = body
    this.#idleMs = idleMs
  }

  /** Why reading stopped before the client ended the body. Undefined where it did not. */
  get reason(): CausewayError | undefined {
    return this.#reason
  }

  /** Stops reading. The first reason is kept. */
  stop(reason: CausewayError): void {
    this.#reason ??= reason
    this.#onStop()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    // Destroying the body would destroy the connection, and the answer with it.
    const chunks = this.#body.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
    const pieces = new SmallPieces()
    while (this.#reason === undefined) {
      const timer = setTimeout(
        () => this.stop(new CausewayError('request-timeout', `The body brought nothing for ${this.#idleMs} ms`)),
        this.#idleMs,
      )
      const stopped = new Promise<undefined>((resolve) => (this.#onStop = () => resolve(undefined)))
      const next = await Promise.race([chunks.next(), stopped]).finally(() => clearTimeout(timer))
      if (next === undefined || next.done) return
      if (pieces.add(next.value)) return this.stop(tooManyPieces())
      yield next.value
    }
  }
}
