import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { documented, namedSchemas } from '../message/named-schemas.ts'
import { ANY_OTHER_PROBLEM, problemExamples } from '../message/problem-responses.ts'
import { sendPieces, slices } from '../message/send-pieces.ts'

/** Most answers of the page at the same time. Each has a file open until its client has read it, credentials or not. */
const PAGE_ANSWERS_MAX = 64

const TAGS = [
  { name: 'publish', description: 'Send messages to the broker' },
  { name: 'subscribe', description: 'Follow topics live' },
  { name: 'sessions', description: 'Durable sessions: the broker keeps messages while their reader is away' },
  { name: 'retained', description: 'The last message of a topic, which the broker keeps' },
  { name: 'operation', description: 'Health, metrics, cookies' },
]

/**
 * A plugin of the page. It runs in the browser, so it must use nothing of this module. "Try it out" would wait for the
 * end of a stream, which never comes; the page at `/` shows streams.
 */
const WITHOUT_STREAMS = () => ({
  statePlugins: {
    spec: { wrapSelectors: { allowTryItOutFor: () => (_state: unknown, path: string) => path !== '/subscribe' } },
  },
})

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
 * Serves the OpenAPI document, generated from the schemas that validate requests, and a page that shows it. To be
 * called before the routes are registered: it describes those that come after.
 */
export async function docs(app: FastifyInstance, { version }: { version: string }): Promise<void> {
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
  let pageAnswers = 0
  await app.register(swaggerUi, {
    uiHooks: {
      onRequest(_request, reply, next) {
        if (pageAnswers >= PAGE_ANSWERS_MAX) {
          return next(new CausewayError('overloaded', 'Too many clients read the documentation', { retryAfter: 1 }))
        }
        pageAnswers += 1
        reply.raw.once('close', () => (pageAnswers -= 1))
        next()
      },
    },
    routePrefix: '/docs',
    staticCSP: true,
    theme: { title: 'Causeway' },
    uiConfig: {
      layout: 'BaseLayout',
      // The page begins as a list of operations, and shows the rest where it is asked to.
      docExpansion: 'list',
      defaultModelsExpandDepth: 0,
      ...({ plugins: [WITHOUT_STREAMS] } as object),
    },
  })
  let document: Buffer | undefined
  app.get('/openapi.json', { schema: { hide: true } }, (request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    reply.header('content-length', document.length).type('application/json; charset=utf-8')
    return sendPieces(reply, slices(document), request.share)
  })
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
