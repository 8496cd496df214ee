import type { Channel, GapReason } from './channel.ts'
import { parseEventId } from './event-id.ts'

/**
 * Where a reader that last got this event goes on in a channel, and why messages before that may be missing.
 * @param newest sequence of the newest event of this process
 */
export function locate(
  { log, floor, isShared }: Channel,
  lastEventId: string,
  epoch: string,
  newest: number,
): { position: number; missing?: GapReason } {
  const last = parseEventId(lastEventId)
  // What followed in a shared channel went to other readers as well: nobody can say what was this one's.
  if (isShared || last?.epoch !== epoch || last.sequence > newest || last.sequence < floor) {
    return { position: log.first, missing: 'unknown-id' }
  }
  if (last.sequence < log.overwritten) return { position: log.first, missing: 'overrun' }
  return { position: log.positionAfter(last.sequence) }
}
