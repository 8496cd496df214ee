import { createRequire } from 'node:module'
import type { ErrorObject, Format } from 'ajv'
import type * as ajv from 'ajv/dist/2020.js'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'
import { CausewayError, type Fault } from '../../errors.ts'
import { Lazy } from '../../lazy.ts'
import { filterFault, isShared, stringFault, topicFault, type TopicRules } from '../../mqtt/topic.ts'

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
/** Most faults in one answer. A body with a million faults must not become an answer with a million entries. */
const MAX_FAULTS = 50
/** Most faults in the text of `detail`. */
const MAX_DETAIL_FAULTS = 3

/**
 * At the first request, as to load Ajv took a tenth of the processor time of a start. What validates cannot wait for an
 * `import()`.
 */
const loadAjv = () => createRequire(import.meta.url)('ajv/dist/2020.js') as typeof ajv

/** What is wrong with a value, as the end of a sentence that begins with the value, or undefined. */
type FormatCheck = (value: string) => string | undefined

export interface Validation {
  /** Returns a function that throws all faults of a value as one CausewayError. */
  checker(schema: object): (value: unknown) => void
  validatorCompiler: FastifySchemaCompiler<object>
  /** All faults of one part of a request, as one CausewayError. */
  schemaErrorFormatter: (errors: FastifySchemaValidationError[], part: string) => Error
}

/**
 * JSON Schema validation with formats for MQTT. Each fault says where it is and what is wrong there. A schema is
 * compiled with the first request that it is for: to compile those of all routes took a fifth of the time of a start.
 */
export function createValidation(rules: TopicRules): Validation {
  const checks: Record<string, FormatCheck> = {
    'mqtt-topic': (value) => topicFault(value, rules),
    'mqtt-filter': (value) => filterFault(value, rules),
    'mqtt-plain-filter': (value) =>
      isShared(value)
        ? 'must not be a shared filter, as shared subscriptions get no retained messages'
        : filterFault(value, rules),
    'mqtt-string': stringFault,
    text: (value) => (value.isWellFormed() ? undefined : 'must not contain lone surrogates'),
    base64: (value) => (BASE64.test(value) ? undefined : 'must be base64 with padding'),
  }
  const formats: Record<string, Format> = Object.fromEntries(
    Object.entries(checks).map(([name, check]) => [name, (value: string) => check(value) === undefined]),
  )
  const options = {
    allErrors: true,
    verbose: true,
    strict: false,
    formats,
    removeAdditional: false,
    useDefaults: true,
    // The schemas are the project's own, and a test checks them. To check them at each start cost a third of its time,
    // because Ajv first compiles the meta-schema.
    validateSchema: false,
    meta: false,
  } as const
  const create = (coerceTypes: false | 'array') => new Lazy(() => new (loadAjv().Ajv2020)({ ...options, coerceTypes }))
  const body = create(false)
  // Query parameters and headers arrive as text.
  const notBody = create('array')

  function toError(errors: ErrorObject[], where: Fault['in']): CausewayError {
    const faults = new Map<string, Fault>()
    let isCut = false
    for (const error of errors) {
      // Describing a fault costs more than finding it: describing all would block the event loop for other callers.
      isCut = faults.size === MAX_FAULTS
      if (isCut) break
      if (error.keyword === 'if' || error.propertyName !== undefined) continue
      const fault = toFault(error, where, checks)
      // Where both type and value are wrong, the list of allowed values says more.
      if (!faults.has(fault.pointer) || error.keyword === 'enum') faults.set(fault.pointer, fault)
    }
    const listed = [...faults.values()]
    const detail = listed
      .slice(0, MAX_DETAIL_FAULTS)
      .map((fault) => `${where} ${fault.pointer} ${fault.detail}`)
      .join('; ')
    const unlisted = faults.size - MAX_DETAIL_FAULTS
    const more = unlisted > 0 ? `; and ${isCut ? 'at least ' : ''}${unlisted} more` : ''
    return new CausewayError('invalid-request', detail + more, { faults: listed })
  }

  return {
    checker(schema) {
      const validator = new Lazy(() => body.get().compile(schema))
      return (value) => {
        const validate = validator.get()
        if (!validate(value)) throw toError(validate.errors!, 'body')
      }
    },
    validatorCompiler({ schema, httpPart }) {
      const isBody = httpPart === 'body'
      const validator = new Lazy(() => (isBody ? body : notBody).get().compile(schema))
      // As a body, a raw payload, which may be any bytes.
      const needsNone = isBody ? Buffer.isBuffer : noneGiven(schema)
      return (value: object) => {
        if (needsNone?.(value)) return true
        const validate = validator.get()
        return validate(value) || { error: validate.errors as never }
      }
    },
    schemaErrorFormatter(errors, part) {
      return toError(
        errors as unknown as ErrorObject[],
        part === 'querystring' ? 'query' : part === 'body' ? 'body' : 'headers',
      )
    },
  }
}

/** What these say holds for an object without members. */
const KEYWORDS_OF_GIVEN = new Set(['type', 'properties', 'additionalProperties', 'dependentRequired'])

/**
 * Whether a request has none of the parameters of a schema. Most have none: no query, and of the headers only those
 * that everybody sends. Then there is nothing to validate, and a schema that nobody needs is never compiled.
 * @returns undefined where parameters may be required or have a default
 */
function noneGiven(schema: object): ((value: object) => boolean) | undefined {
  const { properties = {}, additionalProperties } = schema as { properties?: object; additionalProperties?: boolean }
  const isKnown = Object.keys(schema).every((keyword) => KEYWORDS_OF_GIVEN.has(keyword))
  if (!isKnown || Object.values(properties).some((property) => 'default' in property)) return undefined
  if (additionalProperties === false) return isEmpty
  const names = Object.keys(properties)
  return (value) => names.every((name) => !(name in value))
}

function isEmpty(value: object): boolean {
  for (const _name in value) return false
  return true
}

/** For keywords whose fault is in a member of the value: the parameter of Ajv's error that names the member. */
const MEMBER_PARAMETERS: Record<string, string> = {
  required: 'missingProperty',
  additionalProperties: 'additionalProperty',
  dependentRequired: 'property',
  propertyNames: 'propertyName',
}

function toFault(error: ErrorObject, where: Fault['in'], checks: Record<string, FormatCheck>): Fault {
  const { keyword, params, instancePath, data, schema } = error
  const member = params[MEMBER_PARAMETERS[keyword] ?? ''] as string | undefined
  const path =
    member === undefined ? instancePath : `${instancePath}/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`
  return { in: where, pointer: `#${fragment(path)}`, detail: detailOf() }

  function detailOf(): string {
    if (keyword === 'required') return 'is missing'
    if (keyword === 'additionalProperties') return 'is not a known name'
    if (keyword === 'enum') {
      return `must be one of ${(params['allowedValues'] as unknown[]).map((value) => JSON.stringify(value)).join(', ')}`
    }
    if (keyword === 'type') return `must be ${[params['type'] as string | string[]].flat().join(' or ')}`
    if (keyword === 'format') {
      const detail = checks[params['format'] as string]!(data as string)!
      // Forms send `+` for a space.
      const isSpace = where === 'query' && /^mqtt-(topic|filter|plain-filter)$/.test(params['format'] as string)
      return isSpace && (data as string).includes('+')
        ? `${detail}; + is not a space here, which is sent as %20`
        : detail
    }
    if (keyword === 'propertyNames') {
      return `has a name that ${checks[(schema as { format: string }).format]!(member!)!}`
    }
    if (keyword === 'dependentRequired') return `is only allowed together with ${params['missingProperty'] as string}`
    return error.message ?? 'is not valid'
  }
}

/** Percent-encodes a JSON pointer. `encodeURI` alone throws on lone surrogates and leaves `#` as it is. */
function fragment(path: string): string {
  return encodeURI(path.toWellFormed()).replaceAll('#', '%23')
}
