import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { problemExamples } from '../message/problem-responses.ts'

/** Which of them are taken, and whether any is needed, is a matter of configuration. */
const SECURITY_SCHEMES = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description: 'A token of the bridge’s, a JSON Web Token or the broker’s password',
  },
  basic: { type: 'http', scheme: 'basic', description: 'User name and password of the broker' },
  cookie: { type: 'apiKey', in: 'cookie', name: '__Host-causeway', description: 'Set by `POST /cookie`' },
  query: { type: 'apiKey', in: 'query', name: 'access_token', description: 'Only where it is switched on' },
} as const

/** The OpenAPI document, made of the same schemas that validate. To be registered before the routes it describes. */
export async function docs(app: FastifyInstance, { version }: { version: string }): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Causeway',
        version,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        description:
          'HTTP-to-MQTT bridge: publish with POST, follow topics as server-sent events. Every error is a problem document (RFC 9457) with a stable `code`, and `retryable`.',
      },
      // Wherever the document came from: another origin than its own is out of reach for the page below.
      servers: [{ url: '/' }],
      components: { examples: problemExamples(), securitySchemes: SECURITY_SCHEMES },
      security: [{}, ...Object.keys(SECURITY_SCHEMES).map((scheme) => ({ [scheme]: [] }))],
      tags: [{ name: 'publish' }, { name: 'subscribe' }, { name: 'retained' }, { name: 'operation' }],
    },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject
      describeParameters(document.openapiObject.paths as Paths)
      return document.openapiObject
    },
    refResolver: {
      buildLocalReference: (schema, _base, _fragment, index) => (schema.$id as string | undefined) ?? `def-${index}`,
    },
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    theme: { title: 'Causeway' },
    uiConfig: { layout: 'BaseLayout' },
  })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
}

type Paths = Record<string, Record<string, { parameters?: Parameter[] }>>

interface Parameter {
  required: boolean
  explode?: boolean
  schema: { type?: string; enum?: string[]; default?: unknown }
}

function describeParameters(paths: Paths): void {
  for (const { parameters = [] } of Object.values(paths).flatMap((operations) => Object.values(operations))) {
    for (const parameter of parameters) {
      const { schema } = parameter
      // Validation demands it only because it has filled it in before.
      if (schema.default !== undefined) parameter.required = false
      if (schema.type === 'array') parameter.explode = true
      if (schema.enum !== undefined) schema.type ??= 'string'
    }
  }
}
