/**
 * How a check ends.
 * - `held`: the promise was kept.
 * - `refused`: a documented problem said no.
 * - `limit`: less than the promise, and said so in a documented way, such as a `gap` or `present: false`.
 * - `wrong`: anything else: a message lost without a `gap`, a duplicate without `redelivered`, no answer in time, or a
 *   wrong answer.
 */
export type Outcome =
  | { outcome: 'held' }
  | { outcome: 'refused'; status: number; code: string; why: string }
  | { outcome: 'limit'; why: string }
  | { outcome: 'wrong'; why: string }

/** The bridge answered with an error. Whether that is an honest refusal is judged by the documents. */
export class Refused extends Error {
  readonly status: number
  readonly code: string

  constructor(status: number, code: string, detail: string) {
    super(detail)
    this.status = status
    this.code = code
  }
}

/** Less than the promise, and said so in a documented way. */
export class Limit extends Error {}

/** A promise was broken without a word. */
export class Wrong extends Error {}

/** A limit where the bridge says of this broker that it mixes the order. */
export class OutOfOrder extends Wrong {}

/**
 * @param documented status of each problem code, as docs/errors.md has them
 * @param error what the check threw
 * @param dishonest codes that are no honest answer to this check, though documented: a 404 for what is there
 */
export function outcomeOf(
  error: unknown,
  documented: ReadonlyMap<string, number>,
  dishonest: readonly string[] = [],
): Outcome {
  if (error instanceof Limit) return { outcome: 'limit', why: error.message }
  if (error instanceof Wrong) return { outcome: 'wrong', why: error.message }
  if (error instanceof Refused) {
    const { status, code, message } = error
    const honest = documented.get(code) === status && !dishonest.includes(code) && status !== 500
    return honest
      ? { outcome: 'refused', status, code, why: message }
      : { outcome: 'wrong', why: `${status} ${code}: ${message}` }
  }
  return { outcome: 'wrong', why: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }
}

/** The problem codes of the table in docs/errors.md and their statuses. */
export function documentedProblems(page: string): Map<string, number> {
  return new Map(
    [...page.matchAll(/^\| `([a-z0-9-]+)` \| (\d{3}) \| (?:yes|no) \|/gm)].map(([, code, status]) => [
      code!,
      Number(status),
    ]),
  )
}
