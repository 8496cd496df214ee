export type Outcome = 'pending' | 'acknowledged' | 'unknown' | 'refused'

export interface Publication {
  outcome: Outcome
  /** The bridge's link to the broker broke while it was under way there at QoS 1: the broker may have it twice. */
  blipped: boolean
}

/** A topic of the run. Each has one publisher, which waits for one publication's outcome before the next. */
export interface StormTopic {
  name: string
  qos: 0 | 1 | 2
  retain: boolean
  by: 'http' | 'mqtt'
}

/** Of the broker, so far. */
export interface Restarts {
  readonly begun: number
  readonly over: number
}

/** Per topic, the newest sequence whose publishing had begun at some moment. */
export type Begun = ReadonlyMap<string, number>

/** What was published, per topic and in order. Sequences begin at 1. */
export class Ledger {
  readonly topics: ReadonlyMap<string, StormTopic>
  readonly #publications: Map<string, Publication[]>
  #faults = 0
  #faulty = false
  restarts: Restarts = { begun: 0, over: 0 }

  constructor(topics: readonly StormTopic[]) {
    this.topics = new Map(topics.map((topic) => [topic.name, topic]))
    this.#publications = new Map(topics.map(({ name }) => [name, []]))
  }

  begin(topic: string): { sequence: number; settle(outcome: Outcome): void } {
    const publications = this.#publications.get(topic)!
    const { by, qos } = this.topics.get(topic)!
    const mayDouble = by === 'http' && qos === 1
    const publication: Publication = { outcome: 'pending', blipped: mayDouble && this.#faulty }
    const before = this.#faults
    publications.push(publication)
    return {
      sequence: publications.length,
      settle: (outcome) => {
        publication.outcome = outcome
        if (this.#faults > before) publication.blipped = mayDouble
      },
    }
  }

  of(topic: string, sequence: number): Publication | undefined {
    return this.#publications.get(topic)?.[sequence - 1]
  }

  begun(): Begun {
    return new Map([...this.#publications].map(([topic, { length }]) => [topic, length]))
  }

  /** How many publications had which outcome. */
  summary(): Record<Outcome, number> {
    const counts: Record<Outcome, number> = { pending: 0, acknowledged: 0, unknown: 0, refused: 0 }
    for (const publications of this.#publications.values()) for (const { outcome } of publications) counts[outcome] += 1
    return counts
  }

  faultBegins(isRestart: boolean): void {
    if (isRestart) this.restarts = { ...this.restarts, begun: this.restarts.begun + 1 }
    this.#faulty = true
    this.#faults += 1
  }

  faultEnds(): void {
    this.#faulty = false
    this.restarts = { ...this.restarts, over: this.restarts.begun }
  }
}
