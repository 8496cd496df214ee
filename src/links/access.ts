import { type Identity, requirePublish, requireSubscribe } from '../auth/identity.ts'
import type { Link } from './link.ts'
import type { PublishResult } from '../mqtt/publish/in-flight.ts'
import type { Message } from '../mqtt/message.ts'
import type { StreamSpec } from '../stream/shared/shared-streams.ts'
import type { Hold } from '../stream/shared/hold.ts'
import type { SessionSpec } from '../stream/sessions/open-session.ts'
import type { SessionHold } from '../stream/sessions/sessions.ts'

export type Access = ReturnType<typeof createAccess>

/** What routes do to the broker for a caller: on the caller's link, and only where its rules allow it. */
export function createAccess(linkOf: (identity: Identity) => Link) {
  function mayPublish(identity: Identity, { topic }: Message): Link {
    requirePublish(identity, topic)
    return linkOf(identity)
  }

  function maySubscribe(identity: Identity, filters: readonly string[]): Link {
    requireSubscribe(identity, filters)
    return linkOf(identity)
  }

  return {
    publish: async (identity: Identity, message: Message): Promise<PublishResult> =>
      mayPublish(identity, message).publisher.publish(message),
    publishWhenRoom: async (identity: Identity, message: Message): Promise<PublishResult> =>
      mayPublish(identity, message).publisher.publishWhenRoom(message),
    request: async (identity: Identity, message: Message, timeoutMs: number, signal: AbortSignal): Promise<Message> =>
      mayPublish(identity, message).requester.request(message, timeoutMs, signal),
    open: async (identity: Identity, spec: StreamSpec<Message>): Promise<Hold<Message>> =>
      maySubscribe(identity, spec.filters).streams.open(spec),
    retainedFor: async (identity: Identity, filters: readonly string[], hold: Hold<Message>): Promise<Message[]> =>
      maySubscribe(identity, filters).retainedFor(filters, hold),
    readRetained: async (identity: Identity, filters: readonly string[]): Promise<Message[]> =>
      maySubscribe(identity, filters).retained.read(filters),
    openSession: async (
      identity: Identity,
      spec: SessionSpec<Message>,
      lastEventId: string | undefined,
    ): Promise<SessionHold | undefined> => maySubscribe(identity, spec.filters).sessions.open(spec, lastEventId),
  }
}
