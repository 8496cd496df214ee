import type { Readable } from 'node:stream'
import { CausewayError } from '../../errors.ts'

/** A body that may have no end: it is read until its sender ends it, sends nothing for too long, or `stop` is called. */
export class UnendingBody implements AsyncIterable<Buffer> {
  readonly #body: Readable
  readonly #idleMs: number
  #reason: CausewayError | undefined
  #stopped = () => {}

  constructor(body: Readable, idleMs: number) {
    this.#body = body
    this.#idleMs = idleMs
  }

  /** Why it was ended in place of its sender. */
  get reason(): CausewayError | undefined {
    return this.#reason
  }

  /** Takes no further chunk. */
  stop(reason: CausewayError): void {
    this.#reason ??= reason
    this.#stopped()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    // What destroys the body destroys the connection, and the answer with it.
    const chunks = this.#body.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
    while (this.#reason === undefined) {
      const timer = setTimeout(
        () => this.stop(new CausewayError('request-timeout', `Nothing came for ${this.#idleMs} ms`)),
        this.#idleMs,
      )
      const stopped = new Promise<undefined>((resolve) => (this.#stopped = () => resolve(undefined)))
      const next = await Promise.race([chunks.next(), stopped]).finally(() => clearTimeout(timer))
      if (next === undefined || next.done) return
      yield next.value
    }
  }
}
