import type { Channel } from './channel.ts'
import { parseEventId } from './event-id.ts'
import type { GapReason } from './events.ts'

/** Where a reader continues after its last event. */
export interface ResumePoint {
  /** Position in the channel's log. */
  position: number
  /** Sequence of the last event before this position. */
  sequence: number
  /** Why messages before this position may be missing. */
  missing?: GapReason
  /** Whether the reader does not have the state of its topics, and has to get the retained messages. */
  lacksRetained: boolean
}

/** @param newestSequence sequence of the newest event of the channel's epoch */
export function locate(
  { log, epoch, baseSequence, isSharedSubscription }: Channel,
  lastEventId: string,
  newestSequence: number,
): ResumePoint {
  const last = parseEventId(lastEventId)
  const oldest = { position: log.start, sequence: log.overwrittenUpTo }
  if (
    // The messages after it went to other readers as well, and nothing says which were meant for this one.
    isSharedSubscription ||
    last?.epoch !== epoch ||
    last.sequence > newestSequence ||
    last.sequence < baseSequence
  ) {
    return { ...oldest, missing: 'unknown-id', lacksRetained: true }
  }
  const { sequence, lacksRetained } = last
  if (sequence < log.overwrittenUpTo) return { ...oldest, missing: 'overrun', lacksRetained }
  return { position: log.positionAfter(sequence), sequence, lacksRetained }
}
