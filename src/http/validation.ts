import { Ajv, type ErrorObject, type Format } from 'ajv'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'
import { CausewayError, type Fault } from '../errors.ts'
import { filterFault, isShared, stringFault, topicFault, type TopicRules } from '../mqtt/topic.ts'

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
/** Enough to mend a request by; a body of a million faults must not become an answer of a million lines. */
const MAX_FAULTS = 50

type Describe = (value: string) => string | undefined

export interface Validation {
  /** A check of values against a schema that throws all their faults as one error. */
  checker(schema: object): (value: unknown) => void
  validatorCompiler: FastifySchemaCompiler<object>
  /** Every fault of one part of a request, as one error. */
  schemaErrorFormatter: (errors: FastifySchemaValidationError[], part: string) => Error
}

/** JSON schema validation that knows MQTT's formats and says of each fault where it is and what is wrong. */
export function createValidation(rules: TopicRules): Validation {
  const describe: Record<string, Describe> = {
    'mqtt-topic': (value) => topicFault(value, rules),
    'mqtt-filter': (value) => filterFault(value, rules),
    'mqtt-plain-filter': (value) => (isShared(value) ? 'must not be a shared filter: those have no retained messages' : filterFault(value, rules)),
    'mqtt-string': stringFault,
    text: (value) => (value.isWellFormed() ? undefined : 'must not contain lone surrogates'),
    base64: (value) => (BASE64.test(value) ? undefined : 'must be base64 with its padding'),
  }
  const formats: Record<string, Format> = Object.fromEntries(
    Object.entries(describe).map(([name, fault]) => [name, (value: string) => fault(value) === undefined]),
  )
  const options = { allErrors: true, verbose: true, strict: false, formats, removeAdditional: false, useDefaults: true } as const
  const body = new Ajv({ ...options, coerceTypes: false })
  const rest = new Ajv({ ...options, coerceTypes: 'array' })

  function toError(errors: ErrorObject[], where: Fault['in']): CausewayError {
    const faults = errors.filter(({ keyword }) => keyword !== 'if').map((error) => toFault(error, where, describe))
    const detail = faults.map((fault) => `${where} ${fault.pointer} ${fault.detail}`).slice(0, 3).join('; ')
    const more = faults.length > 3 ? `; and ${faults.length - 3} more` : ''
    return new CausewayError('invalid-request', detail + more, { faults: faults.slice(0, MAX_FAULTS) })
  }

  return {
    checker(schema) {
      const validate = body.compile(schema)
      return (value) => {
        if (!validate(value)) throw toError(validate.errors!, 'body')
      }
    },
    validatorCompiler({ schema, httpPart }) {
      if (httpPart !== 'body') return rest.compile(schema)
      const validate = body.compile(schema)
      // A raw payload is bytes, and any bytes will do.
      return (value: unknown) => Buffer.isBuffer(value) || validate(value) || { error: validate.errors as never }
    },
    schemaErrorFormatter(errors, part) {
      return toError(errors as unknown as ErrorObject[], part === 'querystring' ? 'query' : part === 'body' ? 'body' : 'headers')
    },
  }
}

function toFault(error: ErrorObject, where: Fault['in'], describe: Record<string, Describe>): Fault {
  const { keyword, params, instancePath, data } = error
  const member: unknown = keyword === 'required' ? params['missingProperty'] : keyword === 'additionalProperties' ? params['additionalProperty'] : undefined
  const path = typeof member === 'string' ? `${instancePath}/${member.replaceAll('~', '~0').replaceAll('/', '~1')}` : instancePath
  return { in: where, pointer: `#${encodeURI(path)}`, detail: detailOf() }

  function detailOf(): string {
    if (keyword === 'required') return 'is missing'
    if (keyword === 'additionalProperties') return 'is not known here'
    if (keyword === 'enum') return `must be one of ${(params['allowedValues'] as unknown[]).map((value) => JSON.stringify(value)).join(', ')}`
    if (keyword === 'format') return describe[params['format'] as string]!(data as string)!
    if (keyword === 'dependentRequired') return `goes only with ${params['missingProperty'] as string}`
    return error.message ?? 'is not valid'
  }
}
