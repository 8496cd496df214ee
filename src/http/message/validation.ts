import type { ErrorObject, Format } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'
import { CausewayError, type Fault } from '../../errors.ts'
import { filterFault, isShared, stringFault, topicFault, type TopicRules } from '../../mqtt/topic.ts'

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
    'mqtt-plain-filter': (value) =>
      isShared(value) ? 'must not be a shared filter: those have no retained messages' : filterFault(value, rules),
    'mqtt-string': stringFault,
    text: (value) => (value.isWellFormed() ? undefined : 'must not contain lone surrogates'),
    base64: (value) => (BASE64.test(value) ? undefined : 'must be base64 with its padding'),
  }
  const formats: Record<string, Format> = Object.fromEntries(
    Object.entries(describe).map(([name, fault]) => [name, (value: string) => fault(value) === undefined]),
  )
  const options = {
    allErrors: true,
    verbose: true,
    strict: false,
    formats,
    removeAdditional: false,
    useDefaults: true,
  } as const
  const body = new Ajv2020({ ...options, coerceTypes: false })
  const rest = new Ajv2020({ ...options, coerceTypes: 'array' })

  function toError(errors: ErrorObject[], where: Fault['in']): CausewayError {
    const faults = new Map<string, Fault>()
    let isCut = false
    for (const error of errors) {
      // Each pointer costs more than its fault did, and all of them would hold up everybody else.
      isCut = faults.size === MAX_FAULTS
      if (isCut) break
      if (error.keyword === 'if' || error.propertyName !== undefined) continue
      const fault = toFault(error, where, describe)
      // Where a type and the values of it are wrong together, the values say more.
      if (!faults.has(fault.pointer) || error.keyword === 'enum') faults.set(fault.pointer, fault)
    }
    const listed = [...faults.values()]
    const detail = listed
      .slice(0, 3)
      .map((fault) => `${where} ${fault.pointer} ${fault.detail}`)
      .join('; ')
    const more = faults.size > 3 ? `; and ${isCut ? 'at least ' : ''}${faults.size - 3} more` : ''
    return new CausewayError('invalid-request', detail + more, { faults: listed })
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
      return toError(
        errors as unknown as ErrorObject[],
        part === 'querystring' ? 'query' : part === 'body' ? 'body' : 'headers',
      )
    },
  }
}

/** The parameter of each keyword that names the member at fault, where that is not the value itself. */
const MEMBER: Record<string, string> = {
  required: 'missingProperty',
  additionalProperties: 'additionalProperty',
  dependentRequired: 'property',
  propertyNames: 'propertyName',
}

function toFault(error: ErrorObject, where: Fault['in'], describe: Record<string, Describe>): Fault {
  const { keyword, params, instancePath, data, schema } = error
  const member = params[MEMBER[keyword] ?? ''] as string | undefined
  const path =
    member === undefined ? instancePath : `${instancePath}/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`
  return { in: where, pointer: `#${fragment(path)}`, detail: detailOf() }

  function detailOf(): string {
    if (keyword === 'required') return 'is missing'
    if (keyword === 'additionalProperties') return 'is not known here'
    if (keyword === 'enum') {
      return `must be one of ${(params['allowedValues'] as unknown[]).map((value) => JSON.stringify(value)).join(', ')}`
    }
    if (keyword === 'type') return `must be ${[params['type'] as string | string[]].flat().join(' or ')}`
    if (keyword === 'format') return describe[params['format'] as string]!(data as string)!
    if (keyword === 'propertyNames') {
      return `has a name that ${describe[(schema as { format: string }).format]!(member!)!}`
    }
    if (keyword === 'dependentRequired') return `goes only with ${params['missingProperty'] as string}`
    return error.message ?? 'is not valid'
  }
}

/** Percent-encoded; a name may hold lone surrogates, over which `encodeURI` throws, and `#`, which it lets through. */
function fragment(path: string): string {
  return encodeURI(path.toWellFormed()).replaceAll('#', '%23')
}
