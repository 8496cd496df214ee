import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import type { Message } from '../../mqtt/message.ts'
import { sessionId } from '../../mqtt/session/session-id.ts'
import type { AckMode, Encoder } from '../../stream/events.ts'
import type { OpenedStream } from '../../stream/opened-stream.ts'
import { SESSION_BYTES, type SessionRequest } from '../../stream/sessions/session-stream.ts'

export interface SessionOpening {
  /**
   * Undefined where another reader has the session. While the broker is away, waits for it, until the signal is
   * aborted.
   */
  open(
    caller: Caller,
    request: SessionRequest<Message>,
    lastEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<OpenedStream | undefined>
  /** Whether the session is open here. */
  has(caller: Caller, id: string): boolean
  /** Sessions open here, of all callers. */
  count(): number
  /** Sessions of the caller that are open here. */
  countOf(caller: Caller): number
  /** Most sessions open here. */
  max: number
}

/** What the query and headers of `GET /subscribe` say about a session. */
export interface SessionQuery {
  name: string
  filters: readonly string[]
  qos: number
  slow: string
  retained: boolean
  ack: AckMode
  encoder: Encoder<Message>
  lastEventId: string | undefined
}

const RETRY_AFTER_S = 5

/**
 * Opens a durable session for a reader. Resolves with undefined where another reader has it.
 * @throws CausewayError `session-qos`, `invalid-request`, `too-many-sessions`, `too-many-own-sessions` or `overloaded`
 */
export async function openSession(
  { open, has, count, countOf, max }: SessionOpening,
  caller: Caller,
  { name, filters, qos, slow, retained, ack, encoder, lastEventId }: SessionQuery,
  signal: AbortSignal,
): Promise<OpenedStream | undefined> {
  if (qos !== 1) {
    throw new CausewayError(
      'session-qos',
      'A session is delivered at QoS 1: QoS 0 keeps nothing, and QoS 2 adds nothing over HTTP. Leave qos out',
    )
  }
  if (slow !== 'gap') {
    const detail = 'is for streams without a session: a session waits for a slow reader'
    throw new CausewayError('invalid-request', `query #/slow ${detail}`, {
      faults: [{ in: 'query', pointer: '#/slow', detail }],
    })
  }
  // The id is made of the filters: neither their order nor a repeated one makes another session.
  const unique = [...new Set(filters)].sort()
  const id = sessionId({ owner: caller.identity.name, name, filters: unique })
  if (count() >= max && !has(caller, id)) {
    throw new CausewayError('too-many-sessions', `${max} sessions are open; CAUSEWAY_SESSION_MAX allows no more`, {
      retryAfter: RETRY_AFTER_S,
    })
  }
  if (!has(caller, id)) {
    const own = countOf(caller)
    // As with memory: one caller may have no more than is left for all others.
    if (own >= max - count()) {
      throw new CausewayError(
        'too-many-own-sessions',
        `${own} sessions of this caller are open; only as many as are left for all others (CAUSEWAY_SESSION_MAX) are ` +
          'allowed. Close some first',
        { retryAfter: RETRY_AFTER_S },
      )
    }
    if (!caller.share.mayTake(SESSION_BYTES)) {
      throw new CausewayError(
        'overloaded',
        'This caller already has as much memory as CAUSEWAY_MEMORY_BYTES leaves it',
        {
          retryAfter: RETRY_AFTER_S,
        },
      )
    }
  }
  return open(caller, { id, share: caller.share, name, filters: unique, retained, ack, encoder }, lastEventId, signal)
}
