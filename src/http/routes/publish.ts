import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../../auth/caller.ts'
import type { PublishResult } from '../../mqtt/publish/in-flight.ts'
import type { Message } from '../../mqtt/message.ts'
import type { Once } from '../message/idempotency.ts'
import { stringToJson, toJson } from '../../json-text.ts'
import { acceptMessages, readMessage } from '../message/read-message.ts'
import { problems } from '../message/problem-responses.ts'
import { IdempotencyHeaderSchema, MessageSchema, PublishQuerySchema, PublishResultSchema } from '../message/schemas.ts'

export interface PublishRoutes {
  publish(caller: Caller, message: Message): Promise<PublishResult>
  once: Once
  /** Most bytes of a payload. */
  payloadMax: number
}

/** What is kept of a result: a few numbers, and a text that all results with the same code share. */
const RESULT_BYTES = 128

const schema = {
  operationId: 'publish',
  summary: 'Publish a message',
  description:
    'Answers after the broker has acknowledged the message at its QoS. Without `topic` in the query, the body is a ' +
    'message in JSON. With it, the body is the payload, byte for byte, and Content-Type becomes the message’s ' +
    'content type.',
  tags: ['publish'],
  querystring: PublishQuerySchema,
  headers: IdempotencyHeaderSchema,
  body: {
    content: {
      'application/json': {
        schema: { ...MessageSchema, examples: [{ topic: 'home/temp', payload: { celsius: 21.5 }, qos: 1 }] },
      },
      '*/*': { schema: { description: 'The payload, with `topic` in the query', examples: ['21.5'] } },
    },
  },
  response: {
    200: {
      description: 'The broker has acknowledged the message',
      ...PublishResultSchema,
      examples: [{ topic: 'home/temp', qos: 1, reasonCode: 0, reason: 'Success', matchedSubscribers: true }],
    },
    202: {
      description: 'QoS 0: sent to the broker, which does not acknowledge. The message may still be lost',
      ...PublishResultSchema,
      examples: [{ topic: 'home/temp', qos: 0, reasonCode: null, reason: null, matchedSubscribers: null }],
    },
    ...problems(
      'invalid-request',
      'topic-invalid',
      'not-authorized',
      'forbidden',
      'idempotency-running',
      'payload-too-large',
      'unsupported-media-type',
      'idempotency-mismatch',
      'payload-format-invalid',
      'retain-not-supported',
      'qos-not-supported',
      'properties-not-supported',
      'quota-exceeded',
      'broker-refused',
      'publish-interrupted',
      'broker-unavailable',
      'idempotency-unavailable',
      'overloaded',
      'acknowledgement-timeout',
    ),
  },
} as const

/**
 * Makes the same text of a result as `toJson` does, in a fraction of its time (2 % of a publish): all but the topic is
 * mostly the same as in the result before, so its text is kept.
 */
export function createResultText(): (result: PublishResult) => string {
  let last: Omit<PublishResult, 'topic'> | undefined
  let rest = ''
  return ({ topic, qos, reasonCode, reason, matchedSubscribers }) => {
    const isSame =
      last?.qos === qos &&
      last.reasonCode === reasonCode &&
      last.reason === reason &&
      last.matchedSubscribers === matchedSubscribers
    if (!isSame) {
      last = { qos, reasonCode, reason, matchedSubscribers }
      rest = toJson(last).slice(1)
    }
    return `{"topic":${stringToJson(topic)},${rest}`
  }
}

export async function publishRoutes(
  instance: FastifyInstance,
  { publish, once, payloadMax }: PublishRoutes,
): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  acceptMessages(app, payloadMax)
  app.setReplySerializer(createResultText() as (result: unknown) => string)
  app.post('/publish', {
    schema,
    // Not async: that would cost a promise and two turns of the microtask queue for each message.
    handler: (request, reply) => {
      const message = readMessage(request, payloadMax)
      const header = request.headers['idempotency-key']
      const answer =
        header === undefined
          ? publish(request, message)
          : once({
              header,
              caller: request.identity.name,
              share: request.share,
              operation: 'publish',
              message,
              run: () => publish(request, message),
              keep: ({ qos, reasonCode, reason, matchedSubscribers }) => ({
                qos,
                reasonCode,
                reason,
                matchedSubscribers,
              }),
              sizeOf: () => RESULT_BYTES,
              restore: (kept) => ({ topic: message.topic, ...kept }),
              onReplay: () => void reply.header('idempotency-replayed', 'true'),
            })
      // It returns nothing: a reply has a `then`, so the promise would wait for the end of the answer.
      const send = (result: PublishResult): void => {
        reply.code(message.qos === 0 ? 202 : 200).send(result)
      }
      answer.then(send).catch((error) => reply.send(error))
    },
  })
}
