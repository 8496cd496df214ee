import type { PushInfo } from './info.ts'
import type { Push } from './push.ts'
import type { Target } from './target.ts'

/** What the files of pushes contain. */
export interface PushFiles {
  targets: readonly Target[]
  /** Certificates of further authorities, in PEM. */
  ca: string | undefined
}

export interface PushesOptions {
  /** @param formerTopics filters that the session may still have from before a change */
  start(target: Target, ca: string | undefined, formerTopics: readonly string[]): Push
  /** How long open requests have to end when their target has changed or is gone. */
  endMs: number
}

/** All push targets. */
export class Pushes {
  readonly #options: PushesOptions
  /** By name. */
  readonly #pushes = new Map<string, Push>()
  #ca: string | undefined
  /** The last change of the targets. Changes are made one after the other. */
  #changing: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(options: PushesOptions) {
    this.#options = options
  }

  get all(): Push[] {
    return [...this.#pushes.values()]
  }

  get list(): PushInfo[] {
    return this.all.map(({ info }) => info)
  }

  /**
   * Starts the targets that are new, ends those that are gone, and replaces those that have changed. All others go on
   * undisturbed, and one whose endpoint was gone is tried again.
   * @throws unexpected errors only
   */
  replace(files: PushFiles): Promise<void> {
    return (this.#changing = this.#changing.catch(() => {}).then(() => this.#replace(files)))
  }

  /** Ends all. Open requests have until the signal is aborted. The broker keeps the messages. */
  async close(signal: AbortSignal): Promise<void> {
    this.#isClosed = true
    await Promise.all(this.all.map((push) => push.close(signal)))
    await this.#changing.catch(() => {})
  }

  async #replace({ targets, ca }: PushFiles): Promise<void> {
    const wanted = new Map(targets.map((target) => [target.name, target]))
    const isCaNew = ca !== this.#ca
    this.#ca = ca
    const isUnchanged = ({ target }: Push) =>
      isSame(target, wanted.get(target.name)) && !(isCaNew && target.url.startsWith('https:'))
    const names = new Set([...this.#pushes.keys(), ...wanted.keys()])
    await Promise.all(
      [...names].map(async (name) => {
        const push = this.#pushes.get(name)
        if (push !== undefined && isUnchanged(push)) return push.resume()
        await this.#change(push, wanted.get(name))
      }),
    )
  }

  /** Both have the same session, so the new one starts when the old one has ended. */
  async #change(before: Push | undefined, target: Target | undefined): Promise<void> {
    if (before !== undefined) {
      await before.close(AbortSignal.timeout(this.#options.endMs))
      this.#pushes.delete(before.target.name)
    }
    if (target === undefined || this.#isClosed) return
    const formerTopics = (before?.target.topics ?? []).filter((topic) => !target.topics.includes(topic))
    this.#pushes.set(target.name, this.#options.start(target, this.#ca, formerTopics))
  }
}

function isSame(a: Target, b: Target | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
