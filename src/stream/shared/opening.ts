import type { Channel, GapReason } from '../channel.ts'
import type { Opening } from '../reader.ts'

export interface OpeningOptions<Message> {
  /** Why messages may be missing before all that follows. */
  missing: GapReason | undefined
  /** Said where the broker is away. */
  status: string | undefined
  /** Messages for this reader alone. */
  first: readonly Message[]
  /** One as a JSON text. */
  text: (message: Message) => string
  /** What to continue behind, for a reader that has nothing yet to continue from. */
  bookmark: number | undefined
}

/** What a stream begins with, made as it is written. */
export function* opening<Message>(
  channel: Channel,
  { missing, status, first, text, bookmark }: OpeningOptions<Message>,
): Generator<Opening, undefined> {
  if (missing !== undefined) yield { bytes: channel.gap(missing), events: 1 }
  if (status !== undefined) yield { bytes: channel.encode('status', undefined, status), events: 1 }
  // Only behind the last of them is there something to continue from: a reader that breaks off before begins anew.
  for (const message of first) yield { bytes: channel.encode('message', undefined, text(message)), events: 1 }
  if (bookmark !== undefined) yield { bytes: channel.bookmark(bookmark), events: 0 }
  return undefined
}
