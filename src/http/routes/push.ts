import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { insufficient } from '../../auth/challenge.ts'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import { PUSH_STATES, type PushInfo } from '../../push/info.ts'
import { problems } from '../message/problem-responses.ts'
import { Type } from '../../schema-type.ts'

export interface PushRoutes {
  list(): PushInfo[]
}

const PushInfoSchema = Type.Object({
  name: Type.String(),
  url: Type.String({ description: 'Without its query, which may hold a token.' }),
  topics: Type.Array(Type.String()),
  state: Type.Enum(PUSH_STATES, {
    description:
      '`connecting`: its session is not open, as the broker is away or another instance may have it. `standby`: ' +
      'another instance delivers. `active`: messages are delivered. `retrying`: the last request failed, and is ' +
      'tried again. `paused`: the endpoint answered 410, and nothing is sent until SIGHUP. `refused`: the broker ' +
      'refuses the session or a filter; it is asked again from time to time.',
  }),
  since: Type.String({ format: 'date-time', description: 'When the state began.' }),
  waiting: Type.Integer({ minimum: 0, description: 'Messages that this instance holds for the endpoint.' }),
  lastError: Type.Optional(
    Type.Object(
      { reason: Type.String(), at: Type.String({ format: 'date-time' }) },
      {
        description: 'Why a message was not delivered the last time that one was not. Missing if there was none.',
      },
    ),
  ),
})

const EXAMPLE: PushInfo = {
  name: 'billing',
  url: 'https://billing.example/hooks/mqtt',
  topics: ['orders/#'],
  state: 'retrying',
  since: '2026-11-26T16:58:12.000Z',
  waiting: 17,
  lastError: { reason: 'it answered 503', at: '2026-11-26T17:00:31.000Z' },
}

export async function pushRoutes(instance: FastifyInstance, { list }: PushRoutes): Promise<void> {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>()
  app.get('/push', {
    schema: {
      operationId: 'listPushTargets',
      summary: 'The push targets',
      description: 'The targets of CAUSEWAY_PUSH_FILE, and how they are in this instance. Empty without that setting.',
      tags: ['operation'],
      response: {
        200: { description: 'The targets', type: 'array', items: PushInfoSchema, examples: [[EXAMPLE]] },
        ...problems('forbidden'),
      },
    },
    handler: async (request) => {
      // The admin port has no identities.
      const identity = request.identity as Identity | undefined
      if (identity?.hasNoRules) {
        throw new CausewayError('forbidden', 'Reading the push targets needs a caller with at least one rule', {
          challenge: insufficient,
        })
      }
      return list()
    },
  })
}
