import type { Channel } from '../channel.ts'
import { eventId } from '../event-id.ts'
import { encodeEvent, encodeMessage, type Encoder, type GapReason, type StatusData } from '../events.ts'
import type { PreamblePart } from '../reader.ts'
import type { RetainedPieces } from './retained-pieces.ts'
import type { RetainedUse } from './retained-use.ts'

export interface Opening {
  status: StatusData
  /** Why messages may be missing before all that follows. */
  missing: GapReason | undefined
  /** Sequence of the last event before all that follows: what a client continues after if it leaves now. */
  sequence: number
  /** Whether retained messages follow, or may. */
  lacksRetained: boolean
}

/**
 * What every stream begins with: the status, and a gap if messages may be missing. Behind a status without an id, a
 * client that leaves comes back with the id that it had, and gets the gap.
 */
export function openingOf(channel: Channel, { status, missing, sequence, lacksRetained }: Opening): PreamblePart {
  const statusId = missing === undefined ? sequence : undefined
  const first = channel.encode('status', statusId, status, lacksRetained)
  if (missing === undefined) return { bytes: first, events: 1 }
  channel.counters.gap(missing, 0)
  const gap = channel.encode('gap', sequence, { reason: missing }, lacksRetained)
  return { bytes: Buffer.concat([first, gap]), events: 2 }
}

export interface Preamble<Message> {
  opening: PreamblePart | undefined
  retained: readonly Message[]
  pieces: RetainedPieces<Message>
  /** Why some of these may be missing. */
  missing: GapReason | undefined
  /** Released once they are written. */
  retainedUse: RetainedUse<Message>
  sequence: number
}

/**
 * What is written to a reader before anything of its channel: the opening, unless it is written already, and the
 * retained messages. Each part is encoded when the socket takes it, so that many retained messages are never all in
 * memory a second time.
 *
 * A client that leaves among the retained messages gets all of them again: the ids up to there say that it lacks them,
 * and only the last one of them has an id again.
 */
export function* preambleOf<Message>(
  channel: Channel,
  encoder: Encoder<Message>,
  { opening, retained, pieces, missing, retainedUse, sequence }: Preamble<Message>,
): Generator<PreamblePart, undefined> {
  if (opening !== undefined) yield opening
  if (missing !== undefined) {
    channel.counters.gap(missing, 0)
    yield { bytes: channel.encode('gap', sequence, { reason: missing }, true), events: 1 }
  }
  const last = retained.length - 1
  for (let from = 0; from < last;) {
    const chunk = pieces.at(encoder, retained, from, last)
    if (chunk === undefined) yield { bytes: tooLarge(channel, undefined), events: 1 }
    else yield { bytes: chunk.bytes, events: chunk.events, chunk }
    from += chunk?.events ?? 1
  }
  if (last >= 0) {
    const id = eventId(channel.epoch, sequence)
    yield { bytes: encodeMessage(encoder, id, retained[last]!) ?? tooLarge(channel, id), events: 1 }
  }
  retainedUse.release()
  return undefined
}

function tooLarge(channel: Channel, id: string | undefined): Buffer {
  channel.counters.gap('message-too-large', 1)
  return encodeEvent(channel.format, 'gap', id, { reason: 'message-too-large', dropped: 1 })
}
