import type { Begun, Ledger, Restarts } from './ledger.ts'

/** Something that a follower saw. `begun` is what the publishers had begun to publish when it saw that. */
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

/** How far a follower has got in one topic. */
interface Position {
  /** The newest sequence it has seen. */
  last: number | undefined
  /** Messages up to this sequence may be missing. */
  excused: number
  /** No live message has come on this subscription yet. */
  isNew: boolean
  /** The last `status` said that the broker is disconnected. */
  isBrokerAway: boolean
  /**
   * The newest message of the broker's current redelivery. 0 when a redelivery may begin, undefined when none may:
   * after a live message, until the connection is lost again.
   */
  repeat: number | undefined
  /** The sequences that came live, and how many restarts of the broker were over when they came. */
  readonly seen: Map<number, number>
  /** What was begun to be published when the broker was back last: messages up to this one may come late. */
  lateUpTo: number
  /** Acknowledged messages that newer ones came before, and what is wrong if they never come. */
  readonly late: Map<number, string>
  /** It came back, and no live message has come since: retained messages may come. */
  mayBeRetained?: boolean
}

/**
 * The first breach of the delivery promise in a follower's history, in words; undefined when there is none.
 *
 * The promise, for each topic: a follower sees every message once and in order that was acknowledged to its publisher
 * after the stream's response headers came. A reconnect with a Last-Event-ID does not interrupt this. The exceptions:
 * - After a `gap`, messages may be missing whose publishing had begun by then. When the broker was the reason, this
 *   goes on until the next `status` says that it is connected.
 * - A topic with QoS 0 from which no message has come yet may lose messages without a `gap` while the broker is away. A
 *   bridge that has only seen QoS 1 on a filter cannot know that QoS 0 is published there too.
 * - A QoS 1 message may come again from the broker, which did not get its acknowledgement before the connection was
 *   lost. The redelivery comes before any new message of the topic, in order and without holes, after the `status` or
 *   after a `gap` that covers it. It may come before the `status` when one of several connections is back before the
 *   others.
 * - A QoS 1 message from the bridge may come twice in a row: when its connection breaks between PUBLISH and PUBACK, it
 *   publishes the message again.
 * - A message of QoS 1 or 2 that a `gap` covers, or that was begun before the broker was back, may come after newer live
 *   ones. When Mosquitto 2.0 has many messages queued for a resumed session, it sends newly published ones before them.
 *   Without a `gap` it has to come.
 * - A QoS 2 message may be redelivered like one of QoS 1 after a restart of the broker. Mosquitto 2.0 saves more
 *   messages in the state PUBREL than its window (20) and sends those beyond it as PUBLISH after the restart, which
 *   [MQTT-4.3.3-1] of MQTT 3.1.1 forbids. A receiver that has sent PUBCOMP cannot tell them from new messages.
 *
 * @param hasLeft the follower did not wait for messages that come late
 */
export function breach(history: readonly Happening[], ledger: Ledger, hasLeft = false): string | undefined {
  let positions = new Map<string, Position>()
  for (const [index, happening] of history.entries()) {
    const fault = happening.kind === 'message' ? breachOf(happening, index, positions, ledger) : undefined
    if (fault !== undefined) return `#${index}: ${fault}`
    if (happening.kind === 'gap' && happening.reason === 'subscription-refused') {
      return `#${index}: a filter was refused, though no broker refuses any`
    }
    if (happening.kind === 'opened' && !happening.resumed) {
      positions = new Map(
        [...happening.begun].map(([topic, begun]) => [
          topic,
          {
            last: undefined,
            excused: begun,
            isNew: true,
            isBrokerAway: false,
            repeat: undefined,
            seen: new Map(),
            lateUpTo: 0,
            late: new Map(),
          },
        ]),
      )
    } else if (happening.kind === 'opened') {
      for (const position of positions.values()) position.mayBeRetained = true
    } else if (happening.kind === 'gap' || happening.kind === 'status') {
      for (const [topic, position] of positions) {
        interrupt(position, happening, happening.begun.get(topic)!, ledger.topics.get(topic)!.qos)
      }
    }
  }
  const [neverCame] = hasLeft ? [] : [...positions.values()].flatMap(({ late }) => [...late.values()])
  return neverCame
}

function interrupt(
  position: Position,
  happening: Extract<Happening, { kind: 'gap' | 'status' }>,
  begun: number,
  qos: number,
): void {
  position.repeat = 0
  if (happening.kind === 'gap') {
    if (happening.reason === 'unknown-id') Object.assign(position, { isNew: true, isBrokerAway: false, excused: begun })
    else position.excused = happening.reason.startsWith('broker-') ? Infinity : Math.max(position.excused, begun)
    for (const sequence of position.late.keys()) if (sequence <= position.excused) position.late.delete(sequence)
    return
  }
  position.isBrokerAway = !happening.connected
  if (happening.connected) position.lateUpTo = begun
  if (position.isBrokerAway && position.isNew && qos === 0) position.excused = Infinity
  if (!position.isBrokerAway && position.excused === Infinity) position.excused = begun
}

function breachOf(
  { topic, sequence, qos, retained, restarts }: Extract<Happening, { kind: 'message' }>,
  index: number,
  positions: Map<string, Position>,
  ledger: Ledger,
): string | undefined {
  const position = positions.get(topic)
  const publication = ledger.of(topic, sequence)
  const what = `${topic} ${sequence}`
  if (position === undefined || publication === undefined) return `${what} was never published`
  if (publication.outcome === 'refused') return `${what} came, though its publisher was told that it was not sent`
  if (retained) {
    // A reader that left among the retained messages gets them again, before the live ones that it missed.
    if (position.last !== undefined) {
      return position.mayBeRetained ? undefined : `${what} came as retained after ${position.last}`
    }
    position.last = sequence
    position.excused = 0
    return undefined
  }
  position.mayBeRetained = false
  /** The first acknowledged sequence between these two. */
  const acknowledged = (after: number, before: number): number | undefined => {
    for (let between = after + 1; between < before; between += 1) {
      if (ledger.of(topic, between)!.outcome === 'acknowledged') return between
    }
    return undefined
  }
  const { last, repeat, excused } = position
  // The next message of a redelivery, or the first new one after it.
  if (repeat && sequence > repeat) {
    const leftOut = acknowledged(Math.max(repeat, excused), Math.min(sequence, last! + 1))
    if (leftOut !== undefined) return `${what} came after a redelivery of ${repeat}, without ${leftOut}`
  }
  if (last !== undefined && sequence <= last) {
    if (position.late.delete(sequence)) {
      position.seen.set(sequence, restarts.over)
      return undefined
    }
    if (publication.mayBeDoubled && sequence === (repeat || last)) return undefined
    if (qos > 0 && sequence <= excused && !position.seen.has(sequence) && position.seen.has(last)) {
      position.seen.set(sequence, restarts.over)
      return undefined
    }
    const isAfterRestart = restarts.begun > (position.seen.get(sequence) ?? Infinity)
    if (qos === 0 || (qos === 2 && !isAfterRestart)) return `${what} came again, after ${last}, at QoS ${qos}`
    if (repeat === undefined && !position.isBrokerAway) return `${what} came again, after ${last}, without a reconnect`
    if (sequence <= (repeat ?? 0) && !position.isBrokerAway) {
      return `${what} came again, after a redelivery of ${repeat}`
    }
    position.repeat = sequence
    return undefined
  }
  for (let after = Math.max(last ?? 0, excused); ;) {
    const missing = acknowledged(after, sequence)
    if (missing === undefined) break
    const fault = `${what} came after ${last ?? 'nothing'}, without ${missing}`
    if (qos === 0 || missing > position.lateUpTo) return fault
    position.late.set(missing, `#${index}: ${fault}`)
    after = missing
  }
  position.repeat = undefined
  position.last = sequence
  position.seen.set(sequence, restarts.over)
  position.isNew = false
  return undefined
}
