import type { Channel } from '../channel.ts'
import type { Encoder, GapReason, StatusData } from '../events.ts'
import type { PreamblePart } from '../reader.ts'

export interface Preamble<Message> {
  /** Why messages may be missing before all that follows. */
  missing: GapReason | undefined
  /** The state of the broker connection, if it has to be said. */
  status: StatusData | undefined
  retained: readonly Message[]
  /** Sequence that the client continues after if it reconnects before it got an event with an id. */
  startSequence: number | undefined
}

/**
 * What is written to a reader before anything of its channel. Each part is encoded when the socket takes it, so that
 * many retained messages are never all in memory a second time.
 */
export function* preambleOf<Message>(
  channel: Channel,
  encoder: Encoder<Message>,
  { missing, status, retained, startSequence }: Preamble<Message>,
): Generator<PreamblePart, undefined> {
  if (missing !== undefined) yield { bytes: channel.gap(missing), events: 1 }
  if (status !== undefined) yield { bytes: channel.encode('status', undefined, status), events: 1 }
  // Retained messages have no ids: a reader that breaks off among them gets all of them when it comes back.
  for (const message of retained) {
    yield { bytes: channel.encode('message', undefined, encoder.messageData(message)), events: 1 }
  }
  if (startSequence !== undefined) yield { bytes: channel.setId(startSequence), events: 0 }
  return undefined
}
