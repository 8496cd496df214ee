import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import { isSessionOf } from '../../mqtt/session/session-id.ts'
import type { SessionInfo } from '../../stream/sessions/session-stream.ts'
import type { Acknowledged, NotAcknowledged } from '../../stream/sessions/sessions.ts'
import { problems } from '../message/problem-responses.ts'
import { AckBodySchema, AckResultSchema, SessionInfoSchema, SessionParamsSchema } from '../message/schemas.ts'

export interface SessionRoutes {
  list(identity: Identity): SessionInfo[]
  /** Acknowledges all messages up to an event, at the replica that has it. Resolves within two seconds. */
  acknowledge(identity: Identity, id: string, eventId: string): Promise<Acknowledged | NotAcknowledged>
  /** Makes the broker forget the session, wherever it is open. Resolves with whether the broker had it. */
  forget(identity: Identity, id: string): Promise<boolean>
}

const EXAMPLE = {
  id: '5feceb66ffc8-6b86b273ff34fce19d6b',
  name: 'billing',
  filters: ['orders/#'],
  ack: 'explicit',
  connected: true,
  unacknowledged: 3,
}

const WHY_NOT: Record<NotAcknowledged, (session: string, event: string) => string> = {
  'session-not-open': (session) => `No instance that answered has session ${session} open; try again, or reconnect`,
  'acknowledges-itself': () => 'The stream of this session was opened with ack=auto',
  'event-unknown': (_, event) => `${event} is not an event of the stream that this session has now`,
}

export async function sessionRoutes(
  instance: FastifyInstance,
  { list, acknowledge, forget }: SessionRoutes,
): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()

  app.get('/sessions', {
    schema: {
      operationId: 'listSessions',
      summary: 'The durable sessions open here',
      description:
        'Sessions whose reader is connected to this instance, or left it less than CAUSEWAY_STREAM_LINGER_MS ago. ' +
        'Other sessions are open at other instances, or are kept by the broker alone.',
      tags: ['sessions'],
      response: {
        200: { description: 'The sessions', type: 'array', items: SessionInfoSchema, examples: [[EXAMPLE]] },
        ...problems(),
      },
    },
    handler: async ({ identity }) => list(identity).filter(({ id }) => isSessionOf(identity.name, id)),
  })

  app.post('/sessions/:id/ack', {
    schema: {
      operationId: 'acknowledge',
      summary: 'Acknowledge all events up to one',
      description:
        'For streams opened with `ack=explicit`. The broker will not send the messages up to this event again. Any ' +
        'instance takes it, and hands it to the one that has the stream. An event that was acknowledged before is ' +
        'no error. `session-not-open` comes where no instance has the stream at present, or the one that has it ' +
        'did not answer: try again.',
      tags: ['sessions'],
      params: SessionParamsSchema,
      body: AckBodySchema,
      response: {
        200: { description: 'Acknowledged', ...AckResultSchema, examples: [{ acknowledged: 2, unacknowledged: 1 }] },
        ...problems(
          'invalid-request',
          'session-not-open',
          'event-unknown',
          'acknowledges-itself',
          'unsupported-media-type',
        ),
      },
    },
    handler: async ({ identity, params: { id }, body }) => {
      const result = isSessionOf(identity.name, id) ? await acknowledge(identity, id, body.id) : 'session-not-open'
      if (typeof result !== 'string') return result
      throw new CausewayError(result, WHY_NOT[result](id, body.id))
    },
  })

  app.delete('/sessions/:id', {
    schema: {
      operationId: 'deleteSession',
      summary: 'Make the broker forget a durable session',
      description:
        'The broker drops the messages that it keeps for the session. A stream of the session ends, at any instance. ' +
        'Some brokers keep a session that they are told to end: `broker-refused` says so, instead of 204.',
      tags: ['sessions'],
      params: SessionParamsSchema,
      response: {
        204: { description: 'The broker has forgotten it', type: 'null' },
        ...problems('not-found', 'broker-refused', 'broker-unavailable'),
      },
    },
    handler: async ({ identity, params: { id } }, reply) => {
      if (!isSessionOf(identity.name, id) || !(await forget(identity, id))) {
        throw new CausewayError('not-found', `The broker has no session ${id}`)
      }
      return reply.code(204).send(null)
    },
  })
}
