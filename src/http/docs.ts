import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { problemExamples } from './problem-responses.ts'

/** The OpenAPI document, made of the same schemas that validate. To be registered before the routes it describes. */
export async function docs(app: FastifyInstance, { version }: { version: string }): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Causeway',
        version,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        description: 'HTTP-to-MQTT bridge: publish with POST, follow topics as server-sent events. Every error is a problem document (RFC 9457) with a stable `code`, and `retryable`.',
      },
      servers: [{ url: 'http://localhost:8080' }],
      components: { examples: problemExamples() },
      tags: [{ name: 'publish' }, { name: 'subscribe' }, { name: 'retained' }, { name: 'operation' }],
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, index) => (schema.$id as string | undefined) ?? `def-${index}` },
  })
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
}
