import { EVENT_SCHEMAS } from './event-schemas.ts'
import {
  AckBodySchema,
  AckResultSchema,
  BatchEndSchema,
  BatchFailedSchema,
  BatchPublishedSchema,
  BatchResultSchema,
  MessageSchema,
  ProblemSchema,
  PublishResultSchema,
  SessionInfoSchema,
} from './schemas.ts'

/**
 * What the document has by name. Generated clients name their types so. Wherever a schema with one of these titles
 * stands in an operation, the document refers to it.
 */
const NAMED = [
  MessageSchema,
  PublishResultSchema,
  BatchResultSchema,
  BatchPublishedSchema,
  BatchFailedSchema,
  BatchEndSchema,
  ProblemSchema,
  SessionInfoSchema,
  AckBodySchema,
  AckResultSchema,
  ...EVENT_SCHEMAS,
] as unknown as readonly NamedSchema[]

interface NamedSchema extends Record<string, unknown> {
  title: string
}

type Json = Record<string, unknown>

const names = new Set(NAMED.map(({ title }) => title))

/** The named schemas as OpenAPI's `components.schemas`. */
export function namedSchemas(): Record<string, object> {
  return Object.fromEntries(
    NAMED.map(({ title, examples: _examples, ...schema }) => [title, documented(schema) as object]),
  )
}

/** A part of the document in which each named schema is a reference, and each schema one that generators understand. */
export function documented(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(documented)
  if (typeof part !== 'object' || part === null) return part
  const { title } = part as Json
  if (typeof title === 'string' && names.has(title)) return { $ref: `#/components/schemas/${title}` }
  return Object.fromEntries(Object.entries(plain(part as Json)).map(([key, value]) => [key, documented(value)]))
}

/**
 * A schema without what only validation needs.
 * - `if` and `else`: the descriptions say it, and generators do not know them.
 * - `default`, of properties: most generators make such a property one that every request has to have.
 * - `$id`: the document has names of its own.
 */
function plain({ $id: _id, ...schema }: Json): Json {
  const { allOf, properties } = schema
  if (Array.isArray(allOf) && allOf.every((one) => 'if' in (one as Json))) delete schema['allOf']
  if (Array.isArray(schema['enum'])) schema['type'] ??= 'string'
  if (schema['type'] === 'object' && typeof properties === 'object') {
    schema['properties'] = Object.fromEntries(
      Object.entries(properties as Record<string, Json>).map(([name, property]) => [name, withoutDefault(property)]),
    )
  }
  return schema
}

function withoutDefault({ default: fallback, ...property }: Json): Json {
  if (fallback === undefined || fallback === '') return property
  return { ...property, description: `${property['description']}. Default: \`${JSON.stringify(fallback)}\`` }
}
