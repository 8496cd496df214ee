/** One message that the load has published, or tried to. */
export interface Publication {
  topic: string
  /** Counts from 0 within its topic. */
  number: number
  qos: 0 | 1 | 2
  by: 'http' | 'mqtt'
  /** Milliseconds of `performance.now()`, here and everywhere else in this folder. */
  begunAt: number
  answeredAt?: number
  /** What the publisher saw: `200`, `503 broker-unavailable`, `504 acknowledgement-timeout unknown`, `ECONNRESET`. */
  answer?: string
}

export const keyOf = ({ topic, number }: Pick<Publication, 'topic' | 'number'>): string => `${topic} ${number}`

/** Of a message as it arrived somewhere; its payload begins with its number. */
export const keyOfArrived = (topic: string, payload: string): string => `${topic} ${Number.parseInt(payload, 10)}`

/** Whether the broker has acknowledged it, as far as the publisher was told. */
export const isAcknowledged = ({ answer, qos }: Publication): boolean => answer === '200' && qos > 0

export const isAnsweredWell = ({ answer }: Publication): boolean => answer === '200' || answer === '202'

/** Everything that was published, in the order it was begun. */
export class Ledger {
  readonly publications: Publication[] = []
  readonly #byKey = new Map<string, Publication>()
  readonly #counts = new Map<string, number>()

  begin(by: 'http' | 'mqtt', qos: 0 | 1 | 2, topic: string): Publication {
    const number = this.#counts.get(topic) ?? 0
    this.#counts.set(topic, number + 1)
    const publication: Publication = { topic, number, qos, by, begunAt: performance.now() }
    this.publications.push(publication)
    this.#byKey.set(keyOf(publication), publication)
    return publication
  }

  find(key: string): Publication | undefined {
    return this.#byKey.get(key)
  }

  get unanswered(): number {
    return this.publications.filter(({ answer }) => answer === undefined).length
  }
}
