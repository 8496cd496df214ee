export type Outcome = 'pending' | 'acknowledged' | 'unknown' | 'refused'

export interface Publication {
  outcome: Outcome
  /** The bridge's connection broke while it was publishing this at QoS 1: the broker may have it twice. */
  mayBeDoubled: boolean
}

/** A topic of the storm. It has one publisher, which waits for the outcome of each message before the next. */
export interface StormTopic {
  name: string
  qos: 0 | 1 | 2
  retain: boolean
  by: 'http' | 'mqtt'
}

/** How many restarts of the broker have begun and have ended so far. */
export interface Restarts {
  readonly begun: number
  readonly over: number
}

/** For each topic, the newest sequence whose publishing had begun at some moment. */
export type Begun = ReadonlyMap<string, number>

/** Everything that was published, for each topic in order. Sequences begin at 1. */
export class Ledger {
  readonly topics: ReadonlyMap<string, StormTopic>
  readonly #publications: Map<string, Publication[]>
  #faultCount = 0
  #isFaultActive = false
  restarts: Restarts = { begun: 0, over: 0 }

  constructor(topics: readonly StormTopic[]) {
    this.topics = new Map(topics.map((topic) => [topic.name, topic]))
    this.#publications = new Map(topics.map(({ name }) => [name, []]))
  }

  begin(topic: string): { sequence: number; settle(outcome: Outcome): void } {
    const publications = this.#publications.get(topic)!
    const { by, qos } = this.topics.get(topic)!
    const canDouble = by === 'http' && qos === 1
    const publication: Publication = { outcome: 'pending', mayBeDoubled: canDouble && this.#isFaultActive }
    const before = this.#faultCount
    publications.push(publication)
    return {
      sequence: publications.length,
      settle: (outcome) => {
        publication.outcome = outcome
        if (this.#faultCount > before) publication.mayBeDoubled = canDouble
      },
    }
  }

  of(topic: string, sequence: number): Publication | undefined {
    return this.#publications.get(topic)?.[sequence - 1]
  }

  begun(): Begun {
    return new Map([...this.#publications].map(([topic, { length }]) => [topic, length]))
  }

  /** How many publications have each outcome. */
  summary(): Record<Outcome, number> {
    const counts: Record<Outcome, number> = { pending: 0, acknowledged: 0, unknown: 0, refused: 0 }
    for (const publications of this.#publications.values()) for (const { outcome } of publications) counts[outcome] += 1
    return counts
  }

  faultBegins(isRestart: boolean): void {
    if (isRestart) this.restarts = { ...this.restarts, begun: this.restarts.begun + 1 }
    this.#isFaultActive = true
    this.#faultCount += 1
  }

  faultEnds(): void {
    this.#isFaultActive = false
    this.restarts = { ...this.restarts, over: this.restarts.begun }
  }
}
