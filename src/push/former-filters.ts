import { parseShare } from '../mqtt/topic.ts'

export interface FormerFiltersOptions {
  /** The filters that the target has. */
  filters: readonly string[]
  /** Ends those of the subscriptions that the session has. Rejects where the broker does not answer. */
  unsubscribe(filters: readonly string[]): Promise<void>
}

/** Most filters that are tried for one topic: all that match a topic of eight levels. */
const FILTERS_MAX = 800
/** Topics that are remembered, so that the messages which the broker has queued do not cause a packet each. */
const TOPICS_MAX = 1000
/** Some brokers close the connection over an UNSUBSCRIBE that they do not allow. */
const FAILURES_MAX = 2

/**
 * Ends subscriptions that the session still has from an earlier push file. MQTT has no way to ask which those are. But
 * a message that came by one tells: it is one of the filters that match its topic, and no filter of the target does. So
 * all of them are unsubscribed. Of a shared subscription only the groups are tried that the target still has.
 */
export class FormerFilters {
  readonly #options: FormerFiltersOptions
  readonly #groups: readonly string[]
  readonly #tried = new Set<string>()
  #isBusy = false
  #failures = 0

  constructor(options: FormerFiltersOptions) {
    this.#options = options
    const shares = options.filters.flatMap((filter) => parseShare(filter)?.group ?? [])
    this.#groups = [...new Set(shares)]
  }

  /**
   * A message came that no filter of the target matches.
   * @returns whether subscriptions that may have brought it are being ended now
   */
  found(topic: string): boolean {
    if (this.#isBusy || this.#failures >= FAILURES_MAX || this.#tried.size >= TOPICS_MAX) return false
    if (this.#tried.has(topic)) return false
    this.#tried.add(topic)
    void this.#unsubscribe(topic)
    return true
  }

  async #unsubscribe(topic: string): Promise<void> {
    const filters = filtersMatching(topic, FILTERS_MAX)
    this.#isBusy = true
    try {
      await this.#options.unsubscribe([
        ...filters,
        ...this.#groups.flatMap((group) => filters.map((filter) => `$share/${group}/${filter}`)),
      ])
    } catch {
      this.#failures += 1
      this.#tried.delete(topic)
    } finally {
      this.#isBusy = false
    }
  }
}

/** Filters that match a topic, those with fewer `+` first, `count` at most. */
export function filtersMatching(topic: string, count: number): string[] {
  const levels = topic.split('/')
  const found: string[] = []
  for (let wildcards = 0; wildcards <= levels.length && found.length < count; wildcards += 1) {
    for (let length = levels.length; length >= wildcards; length -= 1) {
      for (const filter of withPlus(levels.slice(0, length), wildcards)) {
        if (length === levels.length) found.push(filter.join('/'))
        found.push([...filter, '#'].join('/'))
        if (found.length >= count) return found.slice(0, count)
      }
    }
  }
  return found
}

/** The levels with so many of them replaced by `+`, in every way. */
function* withPlus(levels: readonly string[], count: number): Generator<string[]> {
  if (count > levels.length) return
  if (levels.length === 0) return yield []
  const [first, ...rest] = levels
  for (const filter of withPlus(rest, count)) yield [first!, ...filter]
  if (count > 0) for (const filter of withPlus(rest, count - 1)) yield ['+', ...filter]
}
