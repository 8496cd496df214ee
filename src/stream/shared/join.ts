import type { StreamMessage } from '../events.ts'
import type { SubscribedChannel } from './subscribed-channel.ts'

/** What a join asks of the broker. Both are created when they are first needed. */
export interface JoinSources<Message> {
  subscriber(): {
    /**
     * Resolves once all messages that the broker had for these filters when it was called are delivered to channels.
     */
    settled(filters: readonly string[]): Promise<void>
  }
  retained(): {
    /** The retained messages that match any of the filters, read on a connection of their own. */
    read(filters: readonly string[]): Promise<Message[]>
  }
}

/** Where in a channel a reader begins, and with what. */
export interface JoinPoint<Message> {
  /** Position in the channel's log. */
  position: number
  /** Sequence of the newest event there was at this point. */
  sequence: number
  /** Retained messages for this reader alone, to be written before anything of the channel. */
  retained: readonly Message[]
}

/** How often a join begins again because messages may be missing. */
const ATTEMPTS_MAX = 3

/** Messages may be missing after each attempt to join, as the connection to the broker was lost during it. */
export class JoinFailed extends Error {
  readonly attempts = ATTEMPTS_MAX

  constructor() {
    super(`Messages may be missing after each of ${ATTEMPTS_MAX} attempts to join`)
  }
}

/**
 * Joins a channel: finds the point from which a new reader gets each message exactly once.
 *
 * A message that is retained while this runs comes twice: live over the subscription, and as a retained message. It
 * must reach the reader once, and the retained messages must come first. So:
 * 1. Wait until the broker has granted every filter. From then on each message comes live.
 * 2. Note the end of the log, where the reader will begin, and record what is delivered to the channel from now on.
 * 3. Read the retained messages. If there are none, the join is done.
 * 4. Wait until the live copies of what was read have been delivered too, because the broker sent them before.
 * 5. If a gap was announced since step 2, a live copy may be missing: begin again with step 2, at most three times.
 * 6. Leave out the retained messages that were recorded: the reader finds them in the log.
 *
 * A reader that gets no retained messages, as it resumes or is one of a shared subscription, takes steps 1 and 2 alone.
 *
 * @param newestSequence the sequence of the newest event there is
 * @throws JoinFailed after three attempts; the errors of the broker where it refuses or is away
 */
export async function join<Message extends StreamMessage>(
  { channel, filters, granted, recordings }: SubscribedChannel<Message>,
  wantsRetained: boolean,
  newestSequence: () => number,
  { subscriber, retained }: JoinSources<Message>,
): Promise<JoinPoint<Message>> {
  await granted
  const here = () => ({ position: channel.log.end, sequence: newestSequence() })
  if (!wantsRetained) return { ...here(), retained: [] }
  const live = new LiveMessages<Message>()
  recordings.add(live)
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      live.clear()
      const point = here()
      const { gaps } = channel
      const messages = await retained().read(filters)
      if (messages.length === 0) return { ...point, retained: [] }
      await subscriber().settled(filters)
      if (channel.gaps === gaps) return { ...point, retained: live.withoutRecorded(messages) }
    }
    throw new JoinFailed()
  } finally {
    recordings.delete(live)
  }
}

/** Most messages and payload bytes of one record. */
const RECORDED_MAX = 65_536
const RECORDED_BYTES_MAX = 16_777_216

/**
 * A bounded record of the messages that were delivered to a channel during a join. What is beyond the limits is not
 * recorded: the reader may then get a message twice, retained and live.
 */
export class LiveMessages<Message extends StreamMessage> {
  #messages: Message[] = []
  #bytes = 0

  record(message: Message): void {
    this.#bytes += message.payload.length
    if (this.#messages.length < RECORDED_MAX && this.#bytes <= RECORDED_BYTES_MAX) this.#messages.push(message)
  }

  clear(): void {
    this.#messages = []
    this.#bytes = 0
  }

  /** The retained messages of which no copy, with the same topic and payload, was recorded. */
  withoutRecorded(retained: readonly Message[]): Message[] {
    const payloadsByTopic = new Map<string, Buffer[]>()
    for (const { topic, payload } of this.#messages) {
      const payloads = payloadsByTopic.get(topic)
      if (payloads === undefined) payloadsByTopic.set(topic, [payload])
      else payloads.push(payload)
    }
    return retained.filter(
      ({ topic, payload }) => !payloadsByTopic.get(topic)?.some((recorded) => recorded.equals(payload)),
    )
  }
}
