import type { Begun, Ledger, Restarts } from './ledger.ts'

/** What happened to one follower, in order. `begun` is what had been begun when the follower learned of it. */
export type Happening =
  | { kind: 'opened'; resumed: boolean; begun: Begun }
  | { kind: 'gap'; reason: string; begun: Begun }
  | { kind: 'status'; connected: boolean; begun: Begun }
  | {
      kind: 'message'
      topic: string
      sequence: number
      qos: number
      retained: boolean
      id: string | undefined
      restarts: Restarts
    }

/** Where a follower stands in a topic. */
interface Place {
  /** The newest sequence seen. */
  last: number | undefined
  /** Nothing up to here is owed, seen or not. */
  excused: number
  /** Nothing came live on this subscription. */
  isNew: boolean
  /** The broker is, as far as the follower knows. */
  isAway: boolean
  /** The newest repeat of a redelivery; 0 where one may begin, undefined where none may. */
  repeat: number | undefined
  /** The sequences seen live, and how many restarts of the broker were over then. */
  readonly seen: Map<number, number>
}

/**
 * The first thing in a follower's history that should not have been, in words.
 *
 * Per topic, what was acknowledged to the publisher after the stream's headers came is seen once and in order, across
 * reconnects with a Last-Event-ID too, except
 * - between a `gap` and, where the broker was the reason, the `status` behind it: what was begun by then may be missing;
 * - that a topic published at QoS 0 and not seen before has no `gap` after the broker was away: a bridge that has seen
 *   QoS 1 alone of a filter cannot know that there is QoS 0 too;
 * - that a QoS 1 message may come again: from the broker, which had not got its acknowledgement when the connection was
 *   lost, first of all on its topic behind the `status` (or a `gap` that covers it; and before, where one of several
 *   connections was back before the last), in order and without leaving out any; and from the publisher, at once, where the link broke between its PUBLISH and PUBACK;
 * - that a message of QoS 1 or 2 that a gap covers may come behind newer live ones: with many queued for a session that was
 *   resumed, Mosquitto 2.0 sends what is published then ahead of them;
 * - that a QoS 2 message may come again in the first of these ways behind a restart of the broker, and no other: Mosquitto 2.0
 *   saves more than its window (20) of messages that it had sent PUBREL for, and sends those beyond it as PUBLISH afterwards,
 *   which [MQTT-4.3.3-1] of 3.1.1 forbids. Whoever has sent PUBCOMP cannot tell them from new ones.
 */
export function breach(history: readonly Happening[], ledger: Ledger): string | undefined {
  let places = new Map<string, Place>()
  for (const [index, happening] of history.entries()) {
    const fault = happening.kind === 'message' ? misplaced(happening, places, ledger) : undefined
    if (fault !== undefined) return `#${index}: ${fault}`
    if (happening.kind === 'gap' && happening.reason === 'subscription-refused') {
      return `#${index}: a filter was refused, by no broker`
    }
    if (happening.kind === 'opened' && !happening.resumed) {
      places = new Map(
        [...happening.begun].map(([topic, begun]) => [
          topic,
          { last: undefined, excused: begun, isNew: true, isAway: false, repeat: undefined, seen: new Map() },
        ]),
      )
    } else if (happening.kind === 'gap' || happening.kind === 'status') {
      for (const [topic, place] of places) {
        interrupt(place, happening, happening.begun.get(topic)!, ledger.topics.get(topic)!.qos)
      }
    }
  }
  return undefined
}

function interrupt(
  place: Place,
  happening: Extract<Happening, { kind: 'gap' | 'status' }>,
  begun: number,
  qos: number,
): void {
  place.repeat = 0
  if (happening.kind === 'gap') {
    if (happening.reason === 'unknown-id') Object.assign(place, { isNew: true, isAway: false, excused: begun })
    else place.excused = happening.reason.startsWith('broker-') ? Infinity : Math.max(place.excused, begun)
    return
  }
  place.isAway = !happening.connected
  if (place.isAway && place.isNew && qos === 0) place.excused = Infinity
  if (!place.isAway && place.excused === Infinity) place.excused = begun
}

function misplaced(
  { topic, sequence, qos, retained, restarts }: Extract<Happening, { kind: 'message' }>,
  places: Map<string, Place>,
  ledger: Ledger,
): string | undefined {
  const place = places.get(topic)
  const publication = ledger.of(topic, sequence)
  const what = `${topic} ${sequence}`
  if (place === undefined || publication === undefined) return `${what} was never published`
  if (publication.outcome === 'refused') return `${what} came, though its publisher was told that it was not sent`
  if (retained) {
    if (place.last !== undefined) return `${what} came as retained behind ${place.last}`
    place.last = sequence
    place.excused = 0
    return undefined
  }
  /** The first acknowledged sequence between two. */
  const acknowledged = (after: number, before: number): number | undefined => {
    for (let between = after + 1; between < before; between += 1) {
      if (ledger.of(topic, between)!.outcome === 'acknowledged') return between
    }
    return undefined
  }
  const { last, repeat, excused } = place
  // The next of a redelivery, or what follows its last.
  if (repeat && sequence > repeat) {
    const leftOut = acknowledged(Math.max(repeat, excused), Math.min(sequence, last! + 1))
    if (leftOut !== undefined) return `${what} came behind a redelivery of ${repeat}, without ${leftOut}`
  }
  if (last !== undefined && sequence <= last) {
    if (publication.blipped && sequence === (repeat || last)) return undefined
    if (qos > 0 && sequence <= excused && !place.seen.has(sequence) && place.seen.has(last)) {
      place.seen.set(sequence, restarts.over)
      return undefined
    }
    const isBehindRestart = restarts.begun > (place.seen.get(sequence) ?? Infinity)
    if (qos === 0 || (qos === 2 && !isBehindRestart)) return `${what} came again, behind ${last}, at QoS ${qos}`
    if (repeat === undefined && !place.isAway) return `${what} came again, behind ${last}, without a reconnect`
    if (sequence <= (repeat ?? 0) && !place.isAway) return `${what} came again, behind a redelivery of ${repeat}`
    place.repeat = sequence
    return undefined
  }
  const missing = acknowledged(Math.max(last ?? 0, excused), sequence)
  if (missing !== undefined) return `${what} came behind ${last ?? 'nothing'}, without ${missing}`
  place.repeat = undefined
  place.last = sequence
  place.seen.set(sequence, restarts.over)
  place.isNew = false
  return undefined
}
