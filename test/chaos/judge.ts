import type { BrokerLog } from './broker-log.ts'
import { isAcknowledged, isAnsweredWell, keyOf, type Ledger, type Publication } from './ledger.ts'
import type { Happening, Reader } from './reader.ts'
import { LOOSE } from './load.ts'

/** An answer or an event that takes longer says that not all works yet. */
export const LATE_MS = 1000
/** A gap says nothing of a message where a newer one of its topic had come this long before. */
const GAP_REACHES_BACK_MS = 2000

export interface ReaderVerdict {
  received: number
  /** Messages that came again, and how many of those were not marked as redelivered. */
  duplicates: number
  unmarked: number
  /** Of messages from one publisher that waits for none: newer ones that came first. */
  outOfOrder: number
  /** Arrived at the broker while the reader was there, never came, and no gap says so. */
  missed: number
  /** The first of these, with the seconds from the end of the fault to its publishing and to the gaps. */
  missedFirst: string | undefined
  /** The same as `missed`, with a gap. */
  missedWithGap: number
  /** The same, where the broker forgot them, as its log shows. */
  forgottenByBroker: number
  gaps: Record<string, number>
  /** Times that it connected, and answers that were no stream. */
  opened: number
  refused: Record<string, number>
}

/** Counts of one fault. `null` seconds: not all worked when the load ended. */
export interface Verdict {
  published: number
  answered200: number
  /** Answered 200 and never at the broker's witness. */
  neverArrived: number
  /** The same, but the broker's log shows that it had acknowledged them. */
  lostByBroker: number
  /** Times that messages of HTTP publishers arrived again, by QoS. */
  duplicatesQos1: number
  duplicatesQos2: number
  /** The same at QoS 2 where the broker's log shows that it received the message once. */
  repeatedByBroker: number
  missed: number
  recoverySeconds: number | null
  /** Answers of the bridge, by status, code and outcome. */
  saw: Record<string, number>
  /** Answered `unknown`, and of these at the witness all the same. */
  unknown: number
  unknownArrived: number
  /** Answered 503 or `not-sent`, and at the witness all the same. */
  notSentArrived: number
  readers: Record<string, ReaderVerdict>
}

export interface Evidence {
  ledger: Ledger
  arrived: ReadonlyMap<string, number>
  brokerLog: BrokerLog
  readers: readonly Reader[]
  /** As the fault says. */
  brokerForgets: boolean
  /** When the fault was over, and when the load was. */
  endedAt: number
  loadEndedAt: number
}

export function judge(evidence: Evidence): Verdict {
  const { ledger, arrived, brokerLog, readers, endedAt, loadEndedAt } = evidence
  const overHttp = ledger.publications.filter(({ by }) => by === 'http')
  const wentMissing = overHttp.filter((publication) => isAcknowledged(publication) && !arrived.has(keyOf(publication)))
  const lostByBroker = wentMissing.filter((publication) => brokerLog.acknowledged(publication)).length
  const again = (publication: Publication) => Math.max(0, (arrived.get(keyOf(publication)) ?? 0) - 1)
  const twice = overHttp.filter((publication) => publication.qos === 2 && again(publication) > 0)
  const repeatedByBroker = twice.filter((publication) => brokerLog.received(publication) === 1)
  const unknown = overHttp.filter(({ answer }) => answer?.endsWith('unknown') === true)
  const notSent = overHttp.filter(({ answer }) => answer?.startsWith('503') === true || answer?.endsWith('not-sent'))
  const verdicts = Object.fromEntries(readers.map((reader) => [reader.spec.name, judgeReader(reader, evidence)]))
  return {
    published: overHttp.length,
    answered200: overHttp.filter(isAcknowledged).length,
    neverArrived: wentMissing.length - lostByBroker,
    lostByBroker,
    duplicatesQos1: sum(overHttp.filter(({ qos }) => qos === 1).map(again)),
    duplicatesQos2: sum(twice.filter((publication) => !repeatedByBroker.includes(publication)).map(again)),
    repeatedByBroker: sum(repeatedByBroker.map(again)),
    missed: sum(Object.values(verdicts).map(({ missed }) => missed)),
    recoverySeconds: recovery(ledger, arrived, readers, endedAt, loadEndedAt),
    saw: count(overHttp.map(({ answer = 'no answer' }) => answer)),
    unknown: unknown.length,
    unknownArrived: unknown.filter((publication) => arrived.has(keyOf(publication))).length,
    notSentArrived: notSent.filter((publication) => arrived.has(keyOf(publication))).length,
    readers: verdicts,
  }
}

/** What a reader should have had: all that arrived at the broker of what was begun while the reader was there. */
export function owedTo(reader: Reader, ledger: Ledger, arrived: ReadonlyMap<string, number>): Publication[] {
  const opened = reader.history.find(({ kind }) => kind === 'opened')
  if (opened === undefined) return []
  const prefix = reader.spec.filter.slice(0, -1)
  return ledger.publications.filter(
    (publication) =>
      publication.topic.startsWith(prefix) && publication.begunAt > opened.at && arrived.has(keyOf(publication)),
  )
}

function judgeReader(reader: Reader, evidence: Evidence): ReaderVerdict {
  const { ledger, arrived, brokerLog, brokerForgets, endedAt } = evidence
  const { history, arrivals } = reader
  const missing = owedTo(reader, ledger, arrived).filter((publication) => !arrivals.has(keyOf(publication)))
  const gaps = gapsOf(history)
  const latest = latestArrivals(history, ledger)
  // Whoever knows that the broker is away, or is not connected, still waits for the last messages.
  const last = history.findLast(({ kind }) => kind !== 'message' && kind !== 'gap')
  const isWaiting = !reader.isOpen || (last?.kind === 'status' && !last.isConnected)
  const waitsFor = isWaiting && last !== undefined ? last.at - GAP_REACHES_BACK_MS : Infinity
  const excused = missing.filter((publication) => {
    const newer = newerThan(publication, latest, ledger)
    if ((newer === undefined && isWaiting) || publication.begunAt > waitsFor) return true
    return gaps.some(
      ({ at, until }) => publication.begunAt <= until && (newer === undefined || newer.at > at - GAP_REACHES_BACK_MS),
    )
  })
  const { sessionId } = reader
  const forgotten =
    brokerForgets && sessionId !== undefined
      ? missing.filter(
          (publication) => !excused.includes(publication) && brokerLog.sentTo(sessionId, publication) === false,
        )
      : []
  const seconds = (at: number): string => `${((at - endedAt) / 1000).toFixed(2)} s`
  const first = missing.find((publication) => !excused.includes(publication) && !forgotten.includes(publication))
  const newer = first && newerThan(first, latest, ledger)
  const messages = history.filter((happening) => happening.kind === 'message')
  const again = messages.filter(({ key, at }) => at > arrivals.get(key)! + 0.001)
  return {
    received: arrivals.size,
    duplicates: messages.length - arrivals.size,
    unmarked: again.filter(({ isRedelivered }) => !isRedelivered).length,
    outOfOrder: outOfOrder([...arrivals.keys()], ledger),
    missed: missing.length - excused.length - forgotten.length,
    missedFirst:
      first &&
      `${keyOf(first)} of ${seconds(first.begunAt)}, a newer one came at ${newer ? seconds(newer.at) : '–'}, ` +
        `gaps at ${gaps.map(({ at }) => seconds(at)).join(', ') || '–'}`,
    forgottenByBroker: forgotten.length,
    missedWithGap: excused.length,
    gaps: count(history.filter((happening) => happening.kind === 'gap').map(({ reason }) => reason)),
    opened: history.filter(({ kind }) => kind === 'opened').length,
    refused: count(history.filter((happening) => happening.kind === 'refused').map(({ answer }) => answer)),
  }
}

/** A gap excuses what was published before it, and before the broker was back where it was away at the time. */
function gapsOf(history: readonly Happening[]): { at: number; until: number }[] {
  return history.flatMap((happening, index) => {
    if (happening.kind !== 'gap') return []
    const before = history.slice(0, index).findLast(({ kind }) => kind === 'status')
    if (before?.kind !== 'status' || before.isConnected) return [{ at: happening.at, until: happening.at }]
    const back = history.slice(index).find((later) => later.kind === 'status' && later.isConnected)
    return [{ at: happening.at, until: back?.at ?? Infinity }]
  })
}

/** First arrivals by topic, in the order they came. */
function latestArrivals(history: readonly Happening[], ledger: Ledger): Map<string, { number: number; at: number }[]> {
  const byTopic = new Map<string, { number: number; at: number }[]>()
  for (const happening of history) {
    const publication = happening.kind === 'message' ? ledger.find(happening.key) : undefined
    if (publication === undefined) continue
    const { topic, number } = publication
    const arrivals = byTopic.get(topic)
    if (arrivals === undefined) byTopic.set(topic, [{ number, at: happening.at }])
    else arrivals.push({ number, at: happening.at })
  }
  return byTopic
}

/**
 * The first message to arrive of those that the broker took behind this one. HTTP requests may overtake each other, and
 * one that the bridge sends again behind an outage reaches the broker behind others that arrived before it. So of HTTP
 * publishes only what was begun after the answer is certainly newer.
 */
function newerThan(
  { topic, number, by, answeredAt = Infinity }: Publication,
  latest: ReadonlyMap<string, { number: number; at: number }[]>,
  ledger: Ledger,
): { number: number; at: number } | undefined {
  const isBehind = (key: string): boolean => by === 'mqtt' || ledger.find(key)!.begunAt > answeredAt
  return latest.get(topic)?.find((other) => other.number > number && isBehind(keyOf({ topic, number: other.number })))
}

/** HTTP requests may overtake each other, so only what one MQTT client published has an order. */
function outOfOrder(keys: readonly string[], ledger: Ledger): number {
  const highest = new Map<string, number>()
  let overtaken = 0
  for (const key of keys) {
    const publication = ledger.find(key)
    if (publication?.by !== 'mqtt') continue
    const before = highest.get(publication.topic) ?? -1
    if (publication.number < before) overtaken += 1
    highest.set(publication.topic, Math.max(before, publication.number))
  }
  return overtaken
}

/**
 * Seconds from the fault's end until the last failed or late answer, and the last late event. `null` where there were
 * some up to the end of the load.
 */
function recovery(
  ledger: Ledger,
  arrived: ReadonlyMap<string, number>,
  readers: readonly Reader[],
  endedAt: number,
  loadEndedAt: number,
): number | null {
  const troubles: number[] = []
  for (const publication of ledger.publications) {
    const { by, begunAt, answeredAt = Infinity } = publication
    if (by !== 'http' || answeredAt < endedAt) continue
    if (!isAnsweredWell(publication) || answeredAt - begunAt > LATE_MS) troubles.push(answeredAt)
  }
  for (const reader of readers) {
    for (const publication of owedTo(reader, ledger, arrived)) {
      const at = reader.arrivals.get(keyOf(publication))
      // What never came is another rule's business, unless nothing comes any more.
      if (at === undefined && publication.begunAt < loadEndedAt - LATE_MS) continue
      if (at !== undefined && (at < endedAt || at - publication.begunAt <= LATE_MS)) continue
      if (reader.spec.filter === LOOSE && at === undefined) continue
      troubles.push(at ?? Infinity)
    }
  }
  const last = Math.max(endedAt, ...troubles)
  return last > loadEndedAt - LATE_MS ? null : Math.round((last - endedAt) / 100) / 10
}

function count(items: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const item of items) counts[item] = (counts[item] ?? 0) + 1
  return counts
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
