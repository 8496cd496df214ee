import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../auth/caller.ts'
import { CausewayError } from '../../errors.ts'
import { type Message, sizeOf } from '../../mqtt/message.ts'
import type { Once } from '../message/idempotency.ts'
import { acceptMessages, readMessage } from '../message/read-message.ts'
import { sendPayload } from '../message/send-payload.ts'
import { isDisconnected } from '../server/disconnects.ts'
import { problems } from '../message/problem-responses.ts'
import { IdempotencyHeaderSchema, MessageSchema, RequestQuerySchema } from '../message/schemas.ts'

export interface RequestRoutes {
  /** Resolves with the reply. The signal ends the waiting for it. */
  request(caller: Caller, message: Message, timeoutMs: number, signal: AbortSignal): Promise<Message>
  once: Once
  /** Most bytes of a payload. */
  payloadMax: number
}

const schema = {
  operationId: 'request',
  summary: 'Publish a message and wait for the reply',
  description:
    'MQTT 5 request and response. Takes a message as `POST /publish` does, adds a response topic and correlation ' +
    'data, publishes it, and answers with the reply: its payload, its content type, and its other properties as ' +
    '`MQTT-*` headers.',
  tags: ['publish'],
  querystring: RequestQuerySchema,
  headers: IdempotencyHeaderSchema,
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
      'idempotency-running',
      'payload-too-large',
      'unsupported-media-type',
      'idempotency-mismatch',
      'payload-format-invalid',
      'retain-not-supported',
      'qos-not-supported',
      'quota-exceeded',
      'requests-not-supported',
      'broker-refused',
      'publish-interrupted',
      'broker-unavailable',
      'idempotency-unavailable',
      'overloaded',
      'acknowledgement-timeout',
      'no-reply',
    ),
  },
} as const

export async function requestRoutes(
  instance: FastifyInstance,
  { request: send, once, payloadMax }: RequestRoutes,
): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  acceptMessages(app, payloadMax)
  app.post('/request', {
    schema,
    handler: async (request, reply) => {
      const message = readMessage(request, payloadMax)
      refuseReserved(message)
      const header = request.headers['idempotency-key']
      const { timeout } = request.query
      const disconnected = new AbortController()
      // With a key, the reply is waited for all the same: a retry gets it.
      if (header === undefined) reply.raw.once('close', () => disconnected.abort())
      const answer = await once({
        header,
        caller: request.identity.name,
        share: request.share,
        operation: 'request',
        message,
        run: () => send(request, message, timeout, disconnected.signal),
        // A copy, as the payload may be a small part of a large buffer that was read from the broker.
        keep: ({ payload, qos, retain, properties }) => ({ payload: Buffer.from(payload), qos, retain, properties }),
        sizeOf: (kept) => sizeOf({ ...kept, topic: '' }),
        restore: (kept) => ({ topic: message.topic, ...kept }),
        onReplay: () => void reply.header('idempotency-replayed', 'true'),
      })
      if (!isDisconnected(reply)) {
        const bytes = sizeOf(answer)
        request.share.takeAnyway('requests', bytes)
        reply.raw.once('close', () => request.share.give('requests', bytes))
      }
      return sendPayload(answer, reply)
    },
  })
}

/** Refuses the properties that Causeway sets itself. */
function refuseReserved({ properties }: Message): void {
  const faults = (['responseTopic', 'correlationData'] as const)
    .filter((name) => properties?.[name] !== undefined)
    .map((name) => ({
      in: 'body' as const,
      pointer: `#/properties/${name}`,
      detail: 'must not be set, as Causeway sets it to receive the reply',
    }))
  if (faults.length > 0) {
    throw new CausewayError(
      'invalid-request',
      faults.map(({ pointer, detail }) => `body ${pointer} ${detail}`).join('; '),
      { faults },
    )
  }
}
