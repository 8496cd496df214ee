import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import type { Message } from '../../mqtt/message.ts'
import { messageOf, acceptMessages } from '../message/read-message.ts'
import { sendPayload } from '../message/send-payload.ts'
import { problems } from '../message/problem-responses.ts'
import { MessageSchema, RequestQuerySchema } from '../message/schemas.ts'

export interface RequestRoutes {
  request(identity: Identity, message: Message, timeoutMs: number, signal: AbortSignal): Promise<Message>
}

const schema = {
  summary: 'Publish a message and wait for the reply',
  description:
    'MQTT 5 request and response: takes a message as `POST /publish` does, sets response topic and correlation data, and answers with the reply: its payload, its content type, the rest in `MQTT-*` headers.',
  tags: ['publish'],
  querystring: RequestQuerySchema,
  body: {
    content: {
      'application/json': {
        schema: { ...MessageSchema, examples: [{ topic: 'home/door/open', payload: { code: 1234 } }] },
      },
      '*/*': { schema: { description: 'The payload, with `topic` in the query', examples: ['open'] } },
    },
  },
  response: {
    200: {
      description: 'The reply',
      content: { '*/*': { schema: { description: 'Its payload', examples: ['done'] } } },
    },
    ...problems(
      'invalid-request',
      'topic-invalid',
      'not-authorized',
      'forbidden',
      'no-responder',
      'payload-too-large',
      'unsupported-media-type',
      'payload-format-invalid',
      'retain-not-supported',
      'qos-not-supported',
      'quota-exceeded',
      'requests-not-supported',
      'broker-refused',
      'publish-interrupted',
      'broker-unavailable',
      'overloaded',
      'acknowledgement-timeout',
      'no-reply',
    ),
  },
} as const

export async function requestRoutes(instance: FastifyInstance, { request: send }: RequestRoutes): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  acceptMessages(app)
  app.post('/request', {
    schema,
    handler: async (request, reply) => {
      const message = messageOf(request)
      refuseReserved(message)
      const left = new AbortController()
      reply.raw.once('close', () => left.abort())
      return sendPayload(await send(request.identity, message, request.query.timeout, left.signal), reply)
    },
  })
}

function refuseReserved({ properties }: Message): void {
  const faults = (['responseTopic', 'correlationData'] as const)
    .filter((name) => properties?.[name] !== undefined)
    .map((name) => ({
      in: 'body' as const,
      pointer: `#/properties/${name}`,
      detail: 'is set by Causeway, which waits for the reply',
    }))
  if (faults.length > 0) {
    throw new CausewayError(
      'invalid-request',
      faults.map(({ pointer, detail }) => `body ${pointer} ${detail}`).join('; '),
      { faults },
    )
  }
}
