import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { CausewayError } from '../errors.ts'
import type { PublishResult } from '../mqtt/in-flight.ts'
import { fromJson, type JsonMessage, type Message, type QoS } from '../mqtt/message.ts'
import { stringFault } from '../mqtt/topic.ts'
import { problems } from './problem-responses.ts'
import { MessageSchema, PublishQuerySchema, PublishResultSchema } from './schemas.ts'

export interface PublishRoutes {
  publish(message: Message): Promise<PublishResult>
  /** Whether the broker takes message properties now. */
  takesProperties(): boolean
}

/** curl sends it with every `-d`, so it says nothing about the payload. */
const CURL_DEFAULT_TYPE = 'application/x-www-form-urlencoded'

const schema = {
  summary: 'Publish a message',
  description:
    'Answers once the broker has acknowledged at the asked QoS. Without `topic` in the query the body is a message in JSON; with it, the body of whatever type is the payload, byte for byte, and Content-Type travels as the content type.',
  tags: ['publish'],
  querystring: PublishQuerySchema,
  body: {
    content: {
      'application/json': { schema: { ...MessageSchema, examples: [{ topic: 'home/temp', payload: { celsius: 21.5 }, qos: 1 }] } },
      '*/*': { schema: { description: 'The payload, with `topic` in the query', examples: ['21.5'] } },
    },
  },
  response: {
    200: { description: 'The broker has it', ...PublishResultSchema, examples: [{ topic: 'home/temp', qos: 1, reasonCode: 0, reason: 'Success', matchedSubscribers: true }] },
    202: { description: 'QoS 0: written to a live connection, nothing promised', ...PublishResultSchema, examples: [{ topic: 'home/temp', qos: 0, reasonCode: null, reason: null, matchedSubscribers: null }] },
    ...problems(
      'invalid-request', 'topic-invalid', 'not-authorized', 'payload-too-large', 'unsupported-media-type', 'payload-format-invalid', 'retain-not-supported',
      'qos-not-supported', 'properties-not-supported', 'quota-exceeded', 'broker-refused', 'publish-interrupted', 'broker-unavailable', 'overloaded', 'acknowledgement-timeout',
    ),
  },
} as const

export async function publishRoutes(instance: FastifyInstance, { publish, takesProperties }: PublishRoutes): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  const parseJson = app.getDefaultJsonParser('error', 'error')

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (isRaw(request.query)) return done(null, body)
    if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
      return done(new CausewayError('unsupported-media-type', 'Send the message as application/json, or name the topic in the query to send the payload as it is'))
    }
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    return parseJson(request, body.toString(), done)
  })

  app.post('/publish', {
    schema,
    onRequest: async (request) => {
      // Fastify refuses a type it cannot parse; as that of a payload any text will do.
      if (isRaw(request.query)) delete request.raw.headers['content-type']
    },
    preValidation: async (request) => {
      if (isRaw(request.query) && request.body == null) request.body = Buffer.alloc(0)
    },
    handler: async (request, reply) => {
      const { query, body } = request
      const message = Buffer.isBuffer(body) ? rawMessage(body, query, contentTypeOf(request.raw.headersDistinct['content-type']?.[0])) : fromJson(body as JsonMessage)
      const result = await publish(message)
      return reply.code(message.qos === 0 ? 202 : 200).send(result)
    },
  })

  function contentTypeOf(header: string | undefined): string | undefined {
    // Over 3.1.1 it cannot be sent, and nobody asked for it expressly.
    if (header === undefined || header === CURL_DEFAULT_TYPE || !takesProperties()) return undefined
    return stringFault(header) === undefined ? header : undefined
  }
}

function isRaw(query: unknown): boolean {
  return (query as { topic?: unknown }).topic !== undefined
}

function rawMessage(payload: Buffer, query: { topic?: string; qos?: number; retain?: boolean; expiry?: number }, contentType: string | undefined): Message {
  const properties = {
    ...(contentType !== undefined && { contentType }),
    ...(query.expiry !== undefined && { messageExpiryInterval: query.expiry }),
  }
  return {
    topic: query.topic!,
    payload,
    qos: (query.qos ?? 1) as QoS,
    retain: query.retain ?? false,
    properties: Object.keys(properties).length > 0 ? properties : undefined,
  }
}
