import { Limit, OutOfOrder, Wrong } from './outcome.ts'
import type { StreamEvent } from './stream-reader.ts'

interface Expectation {
  /** Payloads, each different, in the order of their publishing. */
  expected: readonly string[]
  /** What an earlier reader of the session may have had: it has to be marked when it comes. */
  seen?: readonly string[]
  /** Whether first deliveries have to be in order; they do unless false. */
  ordered?: boolean
}

/**
 * Holds what a reader got against what was published.
 * @throws Limit where something is missing and a `gap` said so
 * @throws Wrong where something is missing without, came twice unmarked, out of order, or was never published
 */
export function judge(events: readonly StreamEvent[], { expected, seen = [], ordered = true }: Expectation): void {
  const had = new Set(seen)
  const first: string[] = []
  const unmarked: string[] = []
  for (const { event, data } of events) {
    if (event !== 'message') continue
    const payload = String(data.payload)
    if (!expected.includes(payload)) throw new Wrong(`a message that nobody published here: ${payload.slice(0, 60)}`)
    if (had.has(payload) && data.redelivered !== true) unmarked.push(payload)
    if (!had.has(payload) && data.redelivered !== true) first.push(payload)
    had.add(payload)
  }
  const came = new Set(events.filter(({ event }) => event === 'message').map(({ data }) => String(data.payload)))
  const missing = expected.filter((payload) => !came.has(payload))
  if (unmarked.length > 0) {
    throw new Wrong(`${unmarked.length} of ${expected.length} came twice without redelivered: ${some(unmarked)}`)
  }
  if (missing.length > 0) {
    const gaps = events.filter(({ event }) => event === 'gap').map(({ data }) => String(data.reason))
    const what = `${missing.length} of ${expected.length} messages missing: ${some(missing)}`
    if (gaps.length === 0) throw new Wrong(`${what}, without a gap`)
    throw new Limit(`${what}, said with gap ${[...new Set(gaps)].join(', ')}`)
  }
  if (!ordered) return
  const positions = first.map((payload) => expected.indexOf(payload))
  const at = positions.findIndex((position, index) => index > 0 && position < positions[index - 1]!)
  if (at !== -1) throw new OutOfOrder(`out of order, unmarked: ${first[at]} behind ${first[at - 1]}`)
}

const some = (payloads: readonly string[]) => payloads.slice(0, 6).join(' ') + (payloads.length > 6 ? ' …' : '')

export const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `${from + index}`)
