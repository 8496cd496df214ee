import type { FastifyInstance } from 'fastify'
import { insufficient } from '../../auth/challenge.ts'
import type { Identity } from '../../auth/identity.ts'
import { CausewayError } from '../../errors.ts'
import { parseAccept, quality } from '../message/accept.ts'
import { problems } from '../message/problem-responses.ts'

/** All metrics in one exposition format. */
export interface Exposition {
  readonly contentType: string
  metrics(): Promise<string>
}

export interface MetricsRoutes {
  text: Exposition
  openMetrics: Exposition
}

export async function metricsRoutes(app: FastifyInstance, { text, openMetrics }: MetricsRoutes): Promise<void> {
  const content = {
    schema: { type: 'string', examples: ['causeway_publish_messages_total{qos="1",outcome="acknowledged"} 42\n'] },
  }
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'Metrics for Prometheus',
        description: 'Prometheus text format 0.0.4, or OpenMetrics 1.0.0 if `Accept` prefers it.',
        tags: ['operation'],
        response: {
          200: {
            description: 'All metrics',
            content: { 'text/plain': content, 'application/openmetrics-text': content },
          },
          ...problems('forbidden'),
        },
      },
    },
    async (request, reply) => {
      // The admin port has no identities.
      const identity = request.identity as Identity | undefined
      if (identity?.hasNoRules) {
        throw new CausewayError('forbidden', 'Reading the metrics needs a caller with at least one rule', {
          challenge: insufficient,
        })
      }
      const ranges = parseAccept(request.headers.accept)
      // Only for those who name it: `*/*` of curl and browsers means the plain text.
      const weight = ranges.get('application/openmetrics-text') ?? 0
      const exposition = weight > 0 && weight >= quality(ranges, 'text/plain') ? openMetrics : text
      return reply
        .type(exposition.contentType)
        .serializer(String)
        .send(await exposition.metrics())
    },
  )
}
