import type { FastifyInstance } from 'fastify'

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
        summary: 'Metrics for Prometheus',
        description: 'Prometheus text format 0.0.4, or OpenMetrics 1.0.0 if `Accept` contains it.',
        tags: ['operation'],
        response: {
          200: {
            description: 'All metrics',
            content: { 'text/plain': content, 'application/openmetrics-text': content },
          },
        },
      },
    },
    async (request, reply) => {
      const exposition = /\bapplication\/openmetrics-text\b/.test(request.headers.accept ?? '') ? openMetrics : text
      return reply
        .type(exposition.contentType)
        .serializer(String)
        .send(await exposition.metrics())
    },
  )
}
