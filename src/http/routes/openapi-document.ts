import swagger from '@fastify/swagger'
import fastify, { type RouteOptions } from 'fastify'
import { documented, namedSchemas } from '../message/named-schemas.ts'
import { ANY_OTHER_PROBLEM, problemExamples } from '../message/problem-responses.ts'
import { schemaController } from '../message/schema-controller.ts'
import { ProblemSchema } from '../message/schemas.ts'

export type DescribedRoute = Pick<RouteOptions, 'method' | 'url' | 'schema'>

const TAGS = [
  { name: 'publish', description: 'Send messages to the broker' },
  { name: 'subscribe', description: 'Follow topics live' },
  { name: 'sessions', description: 'Durable sessions: the broker keeps messages while their reader is away' },
  { name: 'retained', description: 'The last message of a topic, which the broker keeps' },
  { name: 'operation', description: 'Health, metrics, cookies' },
]

/** All kinds of credentials. Which ones are accepted, and whether any is required, depends on the configuration. */
const SECURITY_SCHEMES = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description: 'A token of the bridge, a JSON Web Token, or with `CAUSEWAY_AUTH=broker` a token as broker password',
  },
  basic: { type: 'http', scheme: 'basic', description: 'User name and password for the broker' },
  cookie: { type: 'apiKey', in: 'cookie', name: '__Host-causeway', description: 'Set by `POST /cookie`' },
  query: {
    type: 'apiKey',
    in: 'query',
    name: 'access_token',
    description: 'Available where `CAUSEWAY_AUTH_QUERY_TOKEN` is set',
  },
} as const

/**
 * The OpenAPI document of routes, from the schemas that validate their requests. The OpenAPI plugin wants to be there
 * before the routes are, so it gets a Fastify instance of its own, which never listens.
 */
export async function openApiDocument(routes: readonly DescribedRoute[], version: string): Promise<object> {
  const app = fastify({ exposeHeadRoutes: false, schemaController: schemaController(() => () => true) })
  app.addSchema(ProblemSchema)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Causeway',
        version,
        contact: { name: 'Causeway' },
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        description:
          'HTTP-to-MQTT bridge: publish with POST, follow topics as server-sent events. Every error is a problem ' +
          'document (RFC 9457) with a stable `code`, and `retryable` says whether the same request may succeed later.' +
          '\n\nWhat OpenAPI has no words for:\n\n' +
          '- `text/event-stream` is a stream without end. Its events are what `Event` says, as the fields `event`, ' +
          '`id` and `data` of a block. Read it with an `EventSource` or the like; a generated client would wait for ' +
          'its end.\n' +
          '- `application/x-ndjson` is one JSON value on each line, of the schema that `contentSchema` names. Bodies ' +
          'and answers may be of any length, and come while they are made.\n' +
          '- `application/octet-stream` stands for bytes of any type. Their real type is in `Content-Type`.',
      },
      // Relative, so that the page calls the origin it was loaded from. Another origin would refuse it.
      servers: [{ url: '/' }],
      components: { examples: problemExamples(), securitySchemes: SECURITY_SCHEMES },
      security: [{}, ...Object.keys(SECURITY_SCHEMES).map((scheme) => ({ [scheme]: [] }))],
      tags: TAGS,
    },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject
      const { paths, components, ...rest } = document.openapiObject
      describeParameters(paths as Paths)
      describeBodies(paths as Paths)
      return {
        ...rest,
        components: { ...components, schemas: namedSchemas(), responses: { Problem: ANY_OTHER_PROBLEM } },
        paths: documented(paths),
      } as typeof document.openapiObject
    },
    refResolver: {
      buildLocalReference: (schema, _base, _fragment, index) => (schema.$id as string | undefined) ?? `def-${index}`,
    },
  })
  for (const { method, url, schema } of routes) app.route({ method, url, schema: schema!, handler() {} })
  await app.ready()
  const document = app.swagger()
  await app.close()
  return document
}

interface Operation {
  parameters?: Parameter[]
  requestBody?: { content?: Content }
  responses?: Record<string, { content?: Content; $ref?: string }>
}

type Content = Record<string, { schema?: object }>
type Paths = Record<string, Record<string, Operation>>

interface Parameter {
  required: boolean
  explode?: boolean
  schema: { type?: string; enum?: string[]; default?: unknown }
}

// Bytes of any type. The schemas that validate call that `*/*`, for which generated clients have no code.
function describeBodies(paths: Paths): void {
  for (const operation of Object.values(paths).flatMap((operations) => Object.values(operations))) {
    const responses = Object.values(operation.responses ?? {})
    for (const content of [operation.requestBody?.content, ...responses.map((response) => response.content)]) {
      const raw = content?.['*/*']
      if (content === undefined || raw === undefined) continue
      delete content['*/*']
      content['application/octet-stream'] = {
        ...raw,
        schema: { ...raw.schema, type: 'string', format: 'binary' } as object,
      }
    }
    operation.responses = { ...operation.responses, default: { $ref: '#/components/responses/Problem' } }
  }
}

/** Corrects what the OpenAPI plugin cannot tell from the schemas. */
function describeParameters(paths: Paths): void {
  for (const { parameters = [] } of Object.values(paths).flatMap((operations) => Object.values(operations))) {
    for (const parameter of parameters) {
      const { schema } = parameter
      // The schema requires the parameter, but Ajv fills in the default before it validates.
      if (schema.default !== undefined) parameter.required = false
      if (schema.type === 'array') parameter.explode = true
      if (schema.enum !== undefined) schema.type ??= 'string'
    }
  }
}
