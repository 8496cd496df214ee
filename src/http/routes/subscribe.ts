import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { ended } from '../../auth/challenge.ts'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import type { Message, QoS } from '../../mqtt/message.ts'
import { filtersOverlap, isShared, plainFilter } from '../../mqtt/topic.ts'
import type { Format } from '../../stream/formats/format.ts'
import type { StreamSpec } from '../../stream/shared/shared-streams.ts'
import type { Hold } from '../../stream/shared/hold.ts'
import type { SlowPolicy } from '../../stream/reader.ts'
import { isDisconnected } from '../server/disconnects.ts'
import { negotiate, STREAM_TYPES } from '../message/stream-encodings.ts'
import { problems } from '../message/problem-responses.ts'
import { endWithIdentity } from '../guard/identity-end.ts'
import { SubscribeQuerySchema } from '../message/schemas.ts'
import type { StreamLimit } from '../guard/stream-limit.ts'
import { openSession, type SessionOpeners } from './open-session.ts'

export interface SubscribeRoutes {
  sessions: SessionOpeners
  /** Resolves once the broker has granted every filter. */
  open(identity: Identity, spec: StreamSpec<Message>): Promise<Hold<Message>>
  /** What a stream with these filters begins with. */
  retainedFor(identity: Identity, filters: readonly string[], hold: Hold<Message>): Promise<Message[]>
  seats: StreamLimit
  filtersMax: number
  /** Called with the seconds from the request to the stream's headers. */
  onOpened(seconds: number): void
}

const RETRY_MS = 2000

/** What a stream is, once its headers are written. */
interface Place {
  join(response: ServerResponse, until: AbortSignal): void
  release(): void
}

export async function subscribeRoutes(
  instance: FastifyInstance,
  { sessions, open, retainedFor, seats, filtersMax, onOpened }: SubscribeRoutes,
): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  const querystring = SubscribeQuerySchema(filtersMax)

  async function place(
    identity: Identity,
    spec: StreamSpec<Message>,
    retained: boolean,
    slow: SlowPolicy,
    lastEventId: string | undefined,
  ): Promise<Place> {
    const hold = await open(identity, spec)
    try {
      const first =
        retained && !spec.shared && lastEventId === undefined ? await retainedFor(identity, spec.filters, hold) : []
      return {
        join: (response, until) => hold.join(response, { slow, lastEventId, first, until }),
        release: () => hold.release(),
      }
    } catch (error) {
      hold.release()
      throw error
    }
  }

  app.get('/subscribe', {
    // HEAD could only open a stream to say how it would begin.
    exposeHeadRoute: false,
    config: { stream: true },
    schema: {
      summary: 'Follow topics live',
      description:
        'A stream of events that begins once the broker has granted every filter, with the retained messages that match. Events: `message` (default), `gap` where messages may be missing, `status` when the broker goes or comes, or when the caller’s credentials end and the stream with them. With `$share/GROUP/FILTER` each message goes to one reader of the group. With `session` the broker keeps what the reader has not had, and the first event is `session`.',
      tags: ['subscribe'],
      querystring,
      headers: {
        type: 'object',
        properties: { 'last-event-id': { type: 'string', description: 'Continue behind this event' } },
      },
      produces: STREAM_TYPES,
      response: {
        200: {
          description: 'The stream',
          content: {
            'text/event-stream': {
              schema: {
                type: 'string',
                examples: [
                  'id: 3f9c2ab41d07-42\ndata: {"topic":"home/temp","payload":"21.5","encoding":"utf8","qos":1,"retain":false}\n\n',
                ],
              },
            },
            'application/x-ndjson': {
              schema: {
                type: 'string',
                examples: [
                  '{"event":"message","id":"3f9c2ab41d07-42","data":{"topic":"home/temp","payload":"21.5","encoding":"utf8","qos":1,"retain":false}}\n',
                ],
              },
            },
          },
        },
        204: {
          description: 'Another reader has the session that the last event is of; do not come back',
          type: 'null',
        },
        ...problems(
          'invalid-request',
          'session-qos',
          'too-many-sessions',
          'qos-not-supported',
          'filter-invalid',
          'not-authorized',
          'forbidden',
          'not-acceptable',
          'wildcards-not-supported',
          'shared-subscriptions-not-supported',
          'too-many-retained',
          'quota-exceeded',
          'broker-refused',
          'broker-unavailable',
          'too-many-overlaps',
          'too-many-own-streams',
          'too-many-streams',
          'acknowledgement-timeout',
        ),
      },
    },
    handler: async (request, reply) => {
      const { topic: filters, qos, retained, encoding: embed, slow, session: name, ack = 'auto' } = request.query
      const lastEventId = request.headers['last-event-id']?.toString() ?? request.query.lastEventId
      const encoding = negotiate(request.headers.accept, embed === 'json')
      const shared = checkShared(filters)
      // Behind a body that nobody reads the client's leaving would not be seen.
      request.raw.resume()
      const { identity } = request
      reply.raw.once('close', seats.take(identity, request.ip))
      const until = endWithIdentity(identity, encoding.format, reply.raw)
      const opened =
        name === undefined
          ? await place(
              identity,
              { filters, shared, qos: qos as QoS, encoding },
              retained,
              slow as SlowPolicy,
              lastEventId,
            )
          : await openSession(sessions, identity, { name, filters, qos, slow, retained, ack, encoding, lastEventId })
      // A native EventSource does not come back after this.
      if (opened === undefined) return reply.code(204).send(null)
      if (isDisconnected(reply)) {
        opened.release()
        return reply.hijack()
      }
      if (until.aborted) {
        opened.release()
        throw ended()
      }
      startStream(reply, encoding.format)
      onOpened(reply.elapsedTime / 1000)
      opened.join(reply.raw, until)
      return reply
    },
  })
}

function startStream(reply: FastifyReply, format: Format): void {
  reply.hijack()
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'content-type': format.contentType,
    'cache-control': 'no-store',
    // nginx would otherwise keep events back until its buffer is full.
    'x-accel-buffering': 'no',
  })
  reply.raw.flushHeaders()
  const retry = format.retry(RETRY_MS)
  if (retry.length > 0) reply.raw.write(retry)
}

/** Whether these are shared filters. Copies of a message from a shared and another one could not be told from two messages. */
function checkShared(filters: readonly string[]): boolean {
  const shared = filters.filter(isShared)
  if (shared.length === 0) return false
  if (shared.length < filters.length) throw fault('must not mix $share filters with others on one stream')
  for (const [index, filter] of shared.entries()) {
    const other = shared.slice(0, index).find((earlier) => filtersOverlap(plainFilter(earlier), plainFilter(filter)))
    if (other !== undefined) {
      throw fault(`must not overlap on one stream where they are shared, as ${other} and ${filter} do`)
    }
  }
  return true
}

function fault(detail: string): CausewayError {
  return new CausewayError('invalid-request', `query #/topic ${detail}`, {
    faults: [{ in: 'query', pointer: '#/topic', detail }],
  })
}
