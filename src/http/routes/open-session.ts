import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import type { Message } from '../../mqtt/message.ts'
import { sessionId } from '../../mqtt/session/session-id.ts'
import type { Encoding } from '../../stream/shared/shared-streams.ts'
import type { SessionSpec } from '../../stream/sessions/open-session.ts'
import type { AckMode } from '../../stream/sessions/session-stream.ts'
import type { SessionHold } from '../../stream/sessions/sessions.ts'

export interface SessionOpeners {
  /** Undefined where another reader has it. */
  open(
    identity: Identity,
    spec: SessionSpec<Message>,
    lastEventId: string | undefined,
  ): Promise<SessionHold | undefined>
  has(identity: Identity, id: string): boolean
  /** How many are open. */
  count(): number
  max: number
}

export interface SessionRequest {
  name: string
  filters: readonly string[]
  qos: number
  slow: string
  retained: boolean
  ack: AckMode
  encoding: Encoding<Message>
  lastEventId: string | undefined
}

const RETRY_AFTER_S = 5

/**
 * Opens a durable session for one reader.
 * @throws CausewayError where it is no session that a broker could keep, or there are too many
 */
export async function openSession(
  { open, has, count, max }: SessionOpeners,
  identity: Identity,
  { name, filters, qos, slow, retained, ack, encoding, lastEventId }: SessionRequest,
): Promise<SessionHold | undefined> {
  if (qos !== 1) {
    throw new CausewayError(
      'session-qos',
      'QoS 2 adds nothing to a session over HTTP, and QoS 0 makes none; leave qos out',
    )
  }
  if (slow !== 'gap') {
    const detail = 'is for streams without a session, whose slow readers the log overtakes'
    throw new CausewayError('invalid-request', `query #/slow ${detail}`, {
      faults: [{ in: 'query', pointer: '#/slow', detail }],
    })
  }
  const unique = [...new Set(filters)].sort()
  const id = sessionId({ owner: identity.name, name, filters: unique })
  if (count() >= max && !has(identity, id)) {
    throw new CausewayError('too-many-sessions', `${max} sessions are open, which is all CAUSEWAY_SESSION_MAX allows`, {
      retryAfter: RETRY_AFTER_S,
    })
  }
  return open(identity, { id, name, filters: unique, retained, ack, encoding }, lastEventId)
}
