import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { problems } from '../message/problem-responses.ts'

export interface HealthRoutes {
  isReachable(): boolean
  /** Whether the process is asked to end. */
  isDraining(): boolean
}

const ok = (description: string) => ({
  description,
  type: 'object',
  properties: { status: { type: 'string' } },
  examples: [{ status: 'ok' }],
})

/**
 * `/livez` answers as long as the event loop runs. `/readyz` answers 200 only where requests can succeed, and turns to
 * 503 within a second of losing the broker.
 */
export async function healthRoutes(app: FastifyInstance, { isReachable, isDraining }: HealthRoutes): Promise<void> {
  app.get(
    '/livez',
    { schema: { summary: 'The process is alive', tags: ['operation'], response: { 200: ok('The process is alive') } } },
    async () => ({ status: 'ok' }),
  )

  app.get(
    '/readyz',
    {
      schema: {
        summary: 'The broker is reachable and the process is not shutting down',
        tags: ['operation'],
        response: { 200: ok('Requests can be sent here'), ...problems('broker-unavailable', 'shutting-down') },
      },
    },
    async () => {
      if (isDraining()) {
        throw new CausewayError('shutting-down', 'This instance is shutting down; ask another one', { retryAfter: 1 })
      }
      if (!isReachable()) {
        throw new CausewayError('broker-unavailable', 'There is no connection to the broker', { retryAfter: 1 })
      }
      return { status: 'ok' }
    },
  )
}
