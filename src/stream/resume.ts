import type { Channel } from './channel.ts'
import { parseEventId } from './event-id.ts'
import type { GapReason } from './events.ts'

/**
 * The position at which a reader continues after its last event. `missing` says why messages before it may be missing.
 * @param newestSequence sequence of the newest event of the channel's epoch
 */
export function locate(
  { log, epoch, baseSequence, isSharedSubscription }: Channel,
  lastEventId: string,
  newestSequence: number,
): { position: number; missing?: GapReason } {
  const last = parseEventId(lastEventId)
  if (
    // The messages after it went to other readers as well, and nothing says which were meant for this one.
    isSharedSubscription ||
    last?.epoch !== epoch ||
    last.sequence > newestSequence ||
    last.sequence < baseSequence
  ) {
    return { position: log.start, missing: 'unknown-id' }
  }
  if (last.sequence < log.overwrittenUpTo) return { position: log.start, missing: 'overrun' }
  return { position: log.positionAfter(last.sequence) }
}
