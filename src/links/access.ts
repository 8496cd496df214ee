import type { Caller } from '../auth/caller.ts'
import { type Identity, requirePublish, requireSubscribe } from '../auth/identity.ts'
import { CausewayError } from '../errors.ts'
import type { Message } from '../mqtt/message.ts'
import { isBelow, plainFilter } from '../mqtt/topic.ts'
import type { RetainedMessages } from '../mqtt/retained.ts'
import type { PublishResult } from '../mqtt/publish/in-flight.ts'
import { NoRoom } from '../stream/no-room.ts'
import type { OpenedStream } from '../stream/opened-stream.ts'
import type { SessionRequest } from '../stream/sessions/session-stream.ts'
import type { StreamRequest } from '../stream/shared/shared-streams.ts'
import type { Link } from './link.ts'

export type Access = ReturnType<typeof createAccess>

/**
 * What routes do at the broker for a caller. Each function checks the caller's topic rules first, then uses the
 * caller's link. Functions throw `forbidden` where the rules do not allow it, and `unauthorized` where the identity
 * has ended.
 * @param clusterTopic no caller may publish or subscribe below it, whatever its rules say
 */
export function createAccess(linkOf: (identity: Identity) => Link, clusterTopic: string) {
  function requireNotCluster(topic: string): void {
    if (!isBelow(plainFilter(topic), clusterTopic)) return
    throw new CausewayError('forbidden', `${topic} is for replicas of the bridge alone (CAUSEWAY_CLUSTER_TOPIC)`)
  }

  function linkToPublish({ identity }: Caller, { topic }: Message): Link {
    requirePublish(identity, topic)
    requireNotCluster(topic)
    return linkOf(identity)
  }

  function linkToSubscribe({ identity }: Caller, filters: readonly string[]): Link {
    requireSubscribe(identity, filters)
    filters.forEach(requireNotCluster)
    return linkOf(identity)
  }

  return {
    /** Not async, as it is called for each publish. It throws what it refuses, and does not reject with it. */
    publish: (caller: Caller, message: Message): Promise<PublishResult> => {
      const { publisher } = linkToPublish(caller, message)
      return traced(caller, message, (sent) => publisher.publish(sent, caller.share))
    },
    /** As `publish`, but waits while too many publishes are in flight. */
    publishWhenRoom: async (caller: Caller, message: Message): Promise<PublishResult> => {
      const { publisher } = linkToPublish(caller, message)
      return traced(caller, message, (sent) => publisher.publishWhenRoom(sent, caller.share))
    },
    /** Publishes a message and resolves with the reply to it. */
    request: async (caller: Caller, message: Message, timeoutMs: number, signal: AbortSignal): Promise<Message> => {
      const { requester } = linkToPublish(caller, message)
      return traced(caller, message, (sent) => requester.request(sent, timeoutMs, signal, caller.share))
    },
    readRetained: async (caller: Caller, filters: readonly string[]): Promise<RetainedMessages> =>
      linkToSubscribe(caller, filters).readRetained(filters, caller.share),
    /** Waits for the broker for `CAUSEWAY_SUBSCRIBE_WAIT_MS`, or until the signal is aborted. */
    openStream: async (caller: Caller, request: StreamRequest<Message>, signal: AbortSignal): Promise<OpenedStream> =>
      linkToSubscribe(caller, request.filters)
        .openStream(request, caller.share, signal)
        .catch((error: unknown) => {
          throw error instanceof NoRoom ? noRoom(error) : error
        }),
    /** As `openStream`. Undefined where another reader has the session. */
    openSession: async (
      caller: Caller,
      request: SessionRequest<Message>,
      lastEventId: string | undefined,
      signal: AbortSignal,
    ): Promise<OpenedStream | undefined> =>
      linkToSubscribe(caller, request.filters).openSession(request, lastEventId, signal),
  }
}

function traced<Result>(
  { trace }: Caller,
  message: Message,
  send: (message: Message) => Promise<Result>,
): Promise<Result> {
  return trace === undefined ? send(message) : trace.publish(message, send)
}

function noRoom(cause: NoRoom): CausewayError {
  return new CausewayError('overloaded', `${cause.message}; this request had no effect`, { retryAfter: 5, cause })
}
