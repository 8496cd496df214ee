import type { OutgoingHttpHeaders } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { ended } from '../../auth/challenge.ts'
import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import type { Message, QoS } from '../../mqtt/message.ts'
import { filtersOverlap, isShared, plainFilter } from '../../mqtt/topic.ts'
import { MEDIA_TYPES } from '../../stream/formats/choose.ts'
import type { Format } from '../../stream/formats/format.ts'
import type { OpenedStream } from '../../stream/opened-stream.ts'
import type { SlowPolicy } from '../../stream/reader.ts'
import type { StreamRequest } from '../../stream/shared/shared-streams.ts'
import { endWithIdentity } from '../guard/identity-end.ts'
import type { StreamLimit } from '../guard/stream-limit.ts'
import { problems } from '../message/problem-responses.ts'
import { ndjsonOf, SubscribeQuerySchema } from '../message/schemas.ts'
import { negotiate } from '../message/stream-encodings.ts'
import { isDisconnected } from '../server/disconnects.ts'
import { openSession, type SessionOpening } from './open-session.ts'

export interface SubscribeRoutes {
  /**
   * Resolves once the broker has granted every filter, and the retained messages to begin with are read. While the
   * broker is away, waits for it, until the signal is aborted.
   */
  openStream(caller: Caller, request: StreamRequest<Message>, signal: AbortSignal): Promise<OpenedStream>
  sessions: SessionOpening
  streamLimit: StreamLimit
  filtersMax: number
  /** Called with the seconds from the request to the stream's headers. */
  onOpened(seconds: number): void
}

/** A caller whose streams are few may still have so many channels that linger. */
const LINGERING_MIN = 16

/** How long clients are asked to wait before they reconnect, if the connection breaks. */
const RETRY_MS = 2000

export async function subscribeRoutes(
  instance: FastifyInstance,
  { openStream, sessions, streamLimit, filtersMax, onOpened }: SubscribeRoutes,
): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  const querystring = SubscribeQuerySchema(filtersMax)

  app.get('/subscribe', {
    // To answer a HEAD request, a stream would have to be opened.
    exposeHeadRoute: false,
    config: { stream: true },
    schema: {
      operationId: 'subscribe',
      summary: 'Follow topics live',
      description:
        'A stream of events. It begins once the broker has granted every filter, with a `status` event and the ' +
        'retained messages that match. Events: `message` (the default); `gap` where messages may be missing; ' +
        '`status` at the beginning, when the connection to the broker is lost or is back, and when the stream ends ' +
        'because the caller’s credentials do. While the broker cannot be reached, the request waits for it. With ' +
        '`$share/GROUP/FILTER` each message goes to one reader of the group. With `session` the broker keeps the ' +
        'messages that the reader has not had, and the first event is `session`.',
      tags: ['subscribe'],
      querystring,
      headers: {
        type: 'object',
        properties: { 'last-event-id': { type: 'string', description: 'Continue after this event' } },
      },
      produces: [...MEDIA_TYPES],
      response: {
        200: {
          description: 'The stream',
          content: {
            'text/event-stream': {
              schema: {
                type: 'string',
                contentMediaType: 'text/event-stream',
                description:
                  'Server-sent events without end. What an event has is in `Event`; `data` is one line of JSON',
                examples: [
                  'id: 3f9c2ab41d07-42\n' +
                    'data: {"topic":"home/temp","payload":"21.5","encoding":"utf8","qos":1,"retain":false}\n\n',
                ],
              },
            },
            'application/x-ndjson': {
              schema: {
                ...ndjsonOf({ title: 'Event' }, 'An event on each line, without end'),
                examples: [
                  '{"event":"message","id":"3f9c2ab41d07-42","data":' +
                    '{"topic":"home/temp","payload":"21.5","encoding":"utf8","qos":1,"retain":false}}\n',
                ],
              },
            },
          },
        },
        204: {
          description: 'Another reader has the session that the last event belongs to. Do not reconnect',
          type: 'null',
        },
        ...problems(
          'invalid-request',
          'session-qos',
          'too-many-sessions',
          'too-many-own-sessions',
          'sessions-not-supported',
          'overloaded',
          'qos-not-supported',
          'filter-invalid',
          'not-authorized',
          'forbidden',
          'not-acceptable',
          'wildcards-not-supported',
          'shared-subscriptions-not-supported',
          'too-many-retained',
          'retained-wildcards-not-supported',
          'topic-not-supported',
          'quota-exceeded',
          'broker-refused',
          'broker-unavailable',
          'overloaded',
          'too-many-overlaps',
          'too-many-own-streams',
          'too-many-streams',
          'acknowledgement-timeout',
        ),
      },
    },
    handler: async (request, reply) => {
      const { topic: filters, qos, retained, encoding, slow, session, ack = 'auto' } = request.query
      const { identity } = request
      // An empty id is none: clients send it when they have not got an event with an id yet.
      const lastEventId = request.headers['last-event-id']?.toString() || request.query.lastEventId?.at(-1) || undefined
      const encoder = negotiate(request.headers.accept, encoding === 'json')
      const isSharedSubscription = checkShared(filters)
      // While a body is not read, Node does not notice that the client disconnects.
      request.raw.resume()
      reply.raw.once('close', streamLimit.take(identity, request.address))
      const identityEnd = endWithIdentity(identity, encoder.format, reply.raw)
      const left = new AbortController()
      reply.raw.once('close', () => left.abort())
      const giveUp = AbortSignal.any([left.signal, identityEnd])
      const opening =
        session === undefined
          ? openStream(
              request,
              {
                filters,
                isSharedSubscription,
                qos: qos as QoS,
                encoder,
                slow: slow as SlowPolicy,
                retained,
                lastEventId,
                lingeringMax: Math.max(streamLimit.maxOf(identity), LINGERING_MIN),
              },
              giveUp,
            )
          : openSession(
              sessions,
              request,
              { name: session, filters, qos, slow, retained, ack, encoder, lastEventId },
              giveUp,
            )
      const opened = await opening.catch((error: unknown) => {
        throw identityEnd.aborted ? ended() : error
      })
      // A native EventSource does not reconnect after a 204.
      if (opened === undefined) return reply.code(204).send(null)
      if (isDisconnected(reply)) {
        opened.release()
        return reply.hijack()
      }
      if (identityEnd.aborted) {
        opened.release()
        throw ended()
      }
      writeHead(reply, encoder.format)
      onOpened(reply.elapsedTime / 1000)
      opened.start(reply.raw, identityEnd)
      return reply
    },
  })
}

function writeHead(reply: FastifyReply, format: Format): void {
  reply.hijack()
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'content-type': format.contentType,
    // A proxy that compresses holds events back for ever without `no-transform`; nginx until its buffer is full without
    // `x-accel-buffering`.
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
  })
  reply.raw.flushHeaders()
  const retry = format.retry(RETRY_MS)
  if (retry.length > 0) reply.raw.write(retry)
}

/**
 * Whether these are filters of shared subscriptions.
 * @throws CausewayError if shared ones are mixed with others, or overlap: two copies of one message could then not be
 *   told from two messages
 */
function checkShared(filters: readonly string[]): boolean {
  const shared = filters.filter(isShared)
  if (shared.length === 0) return false
  if (shared.length < filters.length) throw fault('must not mix $share filters with others on one stream')
  for (const [index, filter] of shared.entries()) {
    const other = shared.slice(0, index).find((earlier) => filtersOverlap(plainFilter(earlier), plainFilter(filter)))
    if (other !== undefined) {
      throw fault(`must not have $share filters that overlap on one stream, as ${other} and ${filter} do`)
    }
  }
  return true
}

function fault(detail: string): CausewayError {
  return new CausewayError('invalid-request', `query #/topic ${detail}`, {
    faults: [{ in: 'query', pointer: '#/topic', detail }],
  })
}
