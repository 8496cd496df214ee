import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import type { RetainedMessages } from '../../mqtt/retained.ts'
import type { PublishResult } from '../../mqtt/publish/in-flight.ts'
import { type Message, toJsonText } from '../../mqtt/message.ts'
import { hasWildcard } from '../../mqtt/topic.ts'
import { parseAccept } from '../message/accept.ts'
import { refuseIdempotencyKey } from '../message/idempotency.ts'
import { sendPieces } from '../message/send-pieces.ts'
import { sendPayload } from '../message/send-payload.ts'
import { problems } from '../message/problem-responses.ts'
import { isDisconnected } from '../server/disconnects.ts'
import { PublishResultSchema, RetainedQuerySchema, TopicQuerySchema } from '../message/schemas.ts'

export interface RetainedRoutes {
  /** Resolves with the retained messages that match any of the filters. */
  read(caller: Caller, filters: readonly string[]): Promise<RetainedMessages>
  publish(caller: Caller, message: Message): Promise<PublishResult>
}

const READ_PROBLEMS = [
  'invalid-request',
  'not-authorized',
  'forbidden',
  'not-found',
  'wildcards-not-supported',
  'too-many-retained',
  'retained-wildcards-not-supported',
  'topic-not-supported',
  'broker-refused',
  'broker-unavailable',
  'overloaded',
  'acknowledgement-timeout',
] as const
const DELETE_PROBLEMS = [
  'invalid-request',
  'not-authorized',
  'forbidden',
  'retain-not-supported',
  'broker-refused',
  'publish-interrupted',
  'broker-unavailable',
  'overloaded',
  'acknowledgement-timeout',
] as const

/**
 * The messages as pieces of one JSON array. Each is encoded when it is written, so the text is never in memory whole.
 */
function* arrayOf(messages: readonly Message[], embedJson: boolean): Generator<string> {
  yield '['
  for (const [index, message] of messages.entries()) yield (index > 0 ? ',' : '') + toJsonText(message, embedJson)
  yield ']'
}

export async function retainedRoutes(instance: FastifyInstance, { read, publish }: RetainedRoutes): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()

  app.get('/retained', {
    schema: {
      operationId: 'readRetained',
      summary: 'Read retained messages',
      description:
        'For a topic, answers with the payload, its content type, and the other properties as `MQTT-*` headers. ' +
        'For a filter with wildcards, or with `Accept: application/json`, answers with an array of messages. ' +
        'Clients that are generated from this document should send that header: otherwise they take the payload of ' +
        'one topic, which may be any bytes, for such an array.',
      tags: ['retained'],
      querystring: RetainedQuerySchema,
      response: {
        200: {
          description: 'The retained payload or messages',
          content: {
            'application/json': {
              schema: {
                type: 'array',
                items: { type: 'object', title: 'Message' },
                examples: [[{ topic: 'home/temp', payload: '21.5', encoding: 'utf8', qos: 1, retain: true }]],
              },
            },
            '*/*': { schema: { description: 'The payload', examples: ['21.5'] } },
          },
        },
        ...problems(...READ_PROBLEMS),
      },
    },
    handler: async (request, reply) => {
      const { topic, encoding } = request.query
      const { messages, release } = await read(request, [topic])
      reply.raw.once('close', release)
      if (isDisconnected(reply)) {
        release()
        return reply.hijack()
      }
      if (hasWildcard(topic) || (parseAccept(request.headers.accept).get('application/json') ?? 0) > 0) {
        reply.type('application/json; charset=utf-8')
        return sendPieces(reply, arrayOf(messages, encoding === 'json'), request.share)
      }
      const [message] = messages
      if (message === undefined) throw new CausewayError('not-found', `The broker retains no message on ${topic}`)
      return sendPayload(message, reply)
    },
  })

  app.delete('/retained', {
    schema: {
      operationId: 'deleteRetained',
      summary: 'Delete a retained message',
      description: 'Does not support `Idempotency-Key`: carried out twice, the effect is the same.',
      tags: ['retained'],
      querystring: TopicQuerySchema,
      response: {
        200: {
          description: 'The broker retains no message on the topic any more',
          ...PublishResultSchema,
          examples: [{ topic: 'home/temp', qos: 1, reasonCode: 0, reason: 'Success', matchedSubscribers: true }],
        },
        ...problems(...DELETE_PROBLEMS),
      },
    },
    onRequest: (request, _reply, done) => done(refuseIdempotencyKey(request)),
    // A retained message with an empty payload deletes the one before [MQTT-3.3.1-6].
    handler: async (request) =>
      publish(request, { topic: request.query.topic, payload: Buffer.alloc(0), qos: 1, retain: true }),
  })
}
