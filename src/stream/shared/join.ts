import type { Held, MemoryShare } from '../../memory/account.ts'
import type { GapReason, StreamMessage } from '../events.ts'
import type { SubscribedChannel } from './subscribed-channel.ts'

/** A message of the bridge to itself, by which one sees what came before it. */
export type Marker = { source: string; number: number } | undefined

/** What a join asks of the broker. Both are created when they are first needed. */
export interface JoinSources<Message> {
  subscriber(): {
    /** Resolves once markers arrive on the connections of these filters. */
    prepare(filters: readonly string[]): Promise<void>
    /**
     * Resolves once all messages are delivered to channels that the broker had taken for these filters before the
     * marker; with false where some may still be on their way.
     */
    passed(filters: readonly string[], marker: Marker): Promise<boolean>
  }
  retained(): {
    /** The retained messages that match any of the filters, read on a connection of their own. */
    read(
      filters: readonly string[],
      share: MemoryShare,
    ): Promise<{ messages: readonly Message[]; marker: Marker; release(): void }>
  }
}

/** What a reader begins with. */
export interface Beginning<Message> {
  /** Retained messages for this reader alone, to be written before anything of the channel. */
  retained: readonly Message[]
  /** Why some of these may be missing. */
  missing: GapReason | undefined
  /** Gives back the memory of these, which readers share that read them at the same time. To be called once. */
  release(): void
}

/** Where in a channel a reader begins, and with what. */
export interface JoinPoint<Message> extends Beginning<Message> {
  /** Position in the channel's log. */
  position: number
  /** Sequence of the newest event there was at this point. */
  sequence: number
  /**
   * What the reader begins with is not known yet, as the broker takes its time: it comes later, and the stream is
   * opened without. Nothing of the channel is to be written until then. Never rejects.
   */
  later: Promise<Beginning<Message>> | undefined
}

export interface JoinOptions<Message> extends JoinSources<Message> {
  /** Pays for what has to be remembered. */
  share: MemoryShare
  /** The sequence of the newest event there is. */
  newestSequence: () => number
  /** How long a stream may wait for the retained messages before it is opened without them. */
  openMs?: number
}

const NOTHING: Beginning<never> = { retained: [], missing: undefined, release: () => {} }
/** How often a join begins again because messages may be missing. */
const ATTEMPTS_MAX = 3
const OPEN_MS = 1000

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
 * 3. Read the retained messages. If there are none, the join is done. The last thing that the read does is to publish a
 *    marker, which arrives on the connections of the filters, too.
 * 4. Wait for that marker there. All live copies of what was read have then been delivered, because the broker took
 *    them before the marker. It waits for nothing else, however busy other topics are.
 * 5. If a gap was announced since step 2, a live copy may be missing: begin again with step 2, at most three times.
 * 6. Leave out the retained messages that were recorded: the reader finds them in the log.
 *
 * Where steps 3 to 6 take longer than a second, the stream is opened without them. The reader's beginning is then
 * fixed: a gap in step 5 stays in its log, and of topics with live messages it gets no retained ones, which might be
 * newer.
 *
 * A reader that gets no retained messages, as it resumes or is one of a shared subscription, takes steps 1 and 2 alone.
 *
 * @throws JoinFailed after three attempts; the errors of the broker where it refuses or is away
 */
export async function join<Message extends StreamMessage>(
  subscribed: SubscribedChannel<Message>,
  wantsRetained: boolean,
  options: JoinOptions<Message>,
): Promise<JoinPoint<Message>> {
  const { newestSequence, openMs = OPEN_MS } = options
  const startMs = performance.now()
  await subscribed.granted
  const here = () => ({ position: subscribed.channel.log.end, sequence: newestSequence() })
  if (!wantsRetained) return { ...here(), ...NOTHING, later: undefined }
  const attempt = new JoinAttempts(subscribed, options, here)
  const joined = attempt.run()
  let timer: NodeJS.Timeout | undefined
  const opened = new Promise<JoinPoint<Message>>((resolve) => {
    timer = setTimeout(
      () => {
        const later = joined.catch((): Beginning<Message> => ({ ...NOTHING, missing: 'retained-unknown' }))
        resolve({ ...attempt.fixPoint(), ...NOTHING, later })
      },
      Math.max(openMs - (performance.now() - startMs), 0),
    )
  })
  try {
    return await Promise.race([joined, opened])
  } finally {
    clearTimeout(timer)
  }
}

/** Steps 2 to 6, again and again. */
class JoinAttempts<Message extends StreamMessage> {
  readonly #subscribed: SubscribedChannel<Message>
  readonly #options: JoinOptions<Message>
  readonly #here: () => { position: number; sequence: number }
  #point: { position: number; sequence: number }
  #isFixed = false

  constructor(
    subscribed: SubscribedChannel<Message>,
    options: JoinOptions<Message>,
    here: () => { position: number; sequence: number },
  ) {
    this.#subscribed = subscribed
    this.#options = options
    this.#here = here
    this.#point = here()
  }

  /** The reader begins where the present attempt does, whatever comes. */
  fixPoint(): { position: number; sequence: number } {
    this.#isFixed = true
    return this.#point
  }

  async run(): Promise<JoinPoint<Message>> {
    const { share, subscriber, retained } = this.#options
    const { channel, filters, recordings } = this.#subscribed
    const live = new LiveMessages<Message>(share.hold('joins'))
    recordings.add(live)
    try {
      for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
        if (!this.#isFixed) {
          live.clear()
          this.#point = this.#here()
        }
        const { gaps } = channel
        await subscriber().prepare(filters)
        const { messages, marker, release } = await retained().read(filters, share)
        let isJoined = false
        const joined = (kept: readonly Message[], missing: GapReason | undefined): JoinPoint<Message> => {
          isJoined = true
          return { ...this.#point, retained: kept, missing, release, later: undefined }
        }
        try {
          if (messages.length === 0) return joined([], undefined)
          const isTold = await subscriber().passed(filters, marker)
          if (channel.gaps === gaps && isTold && !live.isIncomplete) {
            return joined(live.withoutRecorded(messages), undefined)
          }
          if (channel.gaps === gaps) return joined(live.withoutTopics(messages), 'retained-unknown')
          // The gap is in the reader's log.
          if (this.#isFixed) return joined(live.withoutTopics(messages), undefined)
        } finally {
          if (!isJoined) release()
        }
      }
      throw new JoinFailed()
    } finally {
      recordings.delete(live)
      live.end()
    }
  }
}

/** Most messages and bytes of one record. */
const RECORDED_MAX = 65_536
const RECORDED_BYTES_MAX = 16_777_216
/** Roughly what an entry takes besides its topic and payload. */
const ENTRY_BYTES = 128

/**
 * A bounded record of the messages that were delivered to a channel during a join. Of what is beyond the limits only
 * the topics are noted: of these no retained message is given to the reader, as it might be one that comes live.
 */
export class LiveMessages<Message extends StreamMessage> {
  readonly #held: Held
  #payloadsByTopic = new Map<string, Buffer[]>()
  #topics = new Set<string>()
  #count = 0
  /** Not even the topics of all messages are known. */
  isIncomplete = false

  /** @param held where its memory is counted */
  constructor(held: Held) {
    this.#held = held
  }

  record(message: Message): void {
    const { topic, payload } = message
    if (this.isIncomplete || this.#topics.has(topic)) return
    const bytes = ENTRY_BYTES + 2 * topic.length + payload.length
    const isAllowed = this.#count < RECORDED_MAX && this.#held.bytes + bytes <= RECORDED_BYTES_MAX
    if (isAllowed && this.#held.grow(bytes)) {
      this.#count += 1
      const payloads = this.#payloadsByTopic.get(topic)
      if (payloads === undefined) this.#payloadsByTopic.set(topic, [payload])
      else payloads.push(payload)
    } else if (this.#held.grow(ENTRY_BYTES + 2 * topic.length)) this.#topics.add(topic)
    else this.isIncomplete = true
  }

  clear(): void {
    this.#payloadsByTopic = new Map()
    this.#topics = new Set()
    this.#count = 0
    this.isIncomplete = false
    this.#held.shrink(this.#held.bytes)
  }

  /** Gives its memory back, for good. */
  end(): void {
    this.clear()
    this.#held.release()
  }

  /** The retained messages of which no copy, with the same topic and payload, was recorded. */
  withoutRecorded(retained: readonly Message[]): Message[] {
    return retained.filter(
      ({ topic, payload }) =>
        !this.#topics.has(topic) && !this.#payloadsByTopic.get(topic)?.some((recorded) => recorded.equals(payload)),
    )
  }

  /** The retained messages of whose topics no message was recorded. */
  withoutTopics(retained: readonly Message[]): Message[] {
    if (this.isIncomplete) return []
    return retained.filter(({ topic }) => !this.#topics.has(topic) && !this.#payloadsByTopic.has(topic))
  }
}
