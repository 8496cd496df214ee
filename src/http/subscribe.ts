import type { OutgoingHttpHeaders } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { CausewayError } from '../errors.ts'
import { type Message, type QoS, toJsonText } from '../mqtt/message.ts'
import { eventStream } from '../stream/event-stream.ts'
import type { Encoding, Lease, StreamSpec } from '../stream/hub.ts'
import { problems } from './problem-responses.ts'
import { SubscribeQuerySchema } from './schemas.ts'

export interface SubscribeRoutes {
  /** Resolves once the broker has granted every filter. */
  open(spec: StreamSpec<Message>): Promise<Lease>
  streamMax: number
  filtersMax: number
  /** Called with the seconds from the request to the stream's headers. */
  onOpened(seconds: number): void
}

const RETRY_MS = 2000
const RETRY_AFTER_S = 5
const MEDIA_TYPES = /(^|,)\s*(text\/event-stream|text\/\*|\*\/\*)\s*(;|,|$)/i

const plain: Encoding<Message> = { name: 'sse', format: eventStream, data: (message) => toJsonText(message, false) }
const embedded: Encoding<Message> = { name: 'sse+json', format: eventStream, data: (message) => toJsonText(message, true) }

export async function subscribeRoutes(instance: FastifyInstance, { open, streamMax, filtersMax, onOpened }: SubscribeRoutes): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  const querystring = SubscribeQuerySchema(filtersMax)
  let streams = 0

  app.get('/subscribe', {
    // HEAD could only open a stream to say how it would begin.
    exposeHeadRoute: false,
    config: { stream: true },
    schema: {
      summary: 'Follow topics live',
      description: 'A stream of server-sent events that begins once the broker has granted every filter. Events: `message` (default), `gap` where messages may be missing, `status` when the broker goes or comes.',
      tags: ['subscribe'],
      querystring,
      headers: { type: 'object', properties: { 'last-event-id': { type: 'string', description: 'Continue behind this event' } } },
      produces: ['text/event-stream'],
      response: {
        200: {
          description: 'The stream',
          content: {
            'text/event-stream': {
              schema: { type: 'string', examples: ['id: 3f9c2ab41d07-42\ndata: {"topic":"home/temp","payload":"21.5","encoding":"utf8","qos":1,"retain":false}\n\n'] },
            },
          },
        },
        ...problems('invalid-request', 'filter-invalid', 'not-authorized', 'not-acceptable', 'wildcards-not-supported', 'shared-subscriptions-not-supported', 'quota-exceeded', 'broker-refused', 'broker-unavailable', 'too-many-streams', 'acknowledgement-timeout'),
      },
    },
    handler: async (request, reply) => {
      const { topic, qos, encoding, lastEventId } = request.query
      if (!MEDIA_TYPES.test(request.headers.accept ?? '*/*')) {
        throw new CausewayError('not-acceptable', 'Streams are available as text/event-stream')
      }
      if (streams >= streamMax) {
        throw new CausewayError('too-many-streams', `${streams} streams are open, which is all CAUSEWAY_STREAM_MAX allows`, { retryAfter: RETRY_AFTER_S })
      }
      streams += 1
      reply.raw.once('close', () => {
        streams -= 1
      })
      const lease = await open({ filters: topic, qos: qos as QoS, encoding: encoding === 'json' ? embedded : plain })
      if (reply.raw.destroyed || request.raw.destroyed) {
        lease.release()
        return reply.hijack()
      }
      startStream(reply)
      onOpened(reply.elapsedTime / 1000)
      lease.join(reply.raw, request.headers['last-event-id']?.toString() ?? lastEventId)
      return reply
    },
  })
}

function startStream(reply: FastifyReply): void {
  reply.hijack()
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'content-type': eventStream.contentType,
    'cache-control': 'no-store',
    // nginx would otherwise keep events back until its buffer is full.
    'x-accel-buffering': 'no',
  })
  reply.raw.write(eventStream.retry(RETRY_MS))
}
