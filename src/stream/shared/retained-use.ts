import type { Held } from '../../memory/account.ts'
import type { Beginning } from './join.ts'

/** Of each message, in the list of one reader. The message itself is in memory once for all who read it together. */
const REFERENCE_BYTES = 8

/** The retained messages that one reader begins with, until they are written or the reader is gone. */
export class RetainedUse<Message> {
  readonly #held: Held
  #giveBack = (): void => {}
  #isOver = false

  /** @param held where the list is counted; released with the messages */
  constructor(held: Held) {
    this.#held = held
  }

  /** @returns false where there is no room for the list, or the reader is gone: the messages are given back then */
  begin({ retained, release }: Beginning<Message>): boolean {
    if (!this.#isOver && this.#held.grow(retained.length * REFERENCE_BYTES)) {
      this.#giveBack = release
      return true
    }
    release()
    return false
  }

  /** May be called again. */
  release(): void {
    this.#isOver = true
    this.#giveBack()
    this.#giveBack = () => {}
    this.#held.release()
  }
}
