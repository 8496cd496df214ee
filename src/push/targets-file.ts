import { validateHeaderName, validateHeaderValue } from 'node:http'
import { parseHeaderLines } from '../config/header-lines.ts'
import { filterFault, topicFault, type TopicRules } from '../mqtt/topic.ts'
import { parseSecret } from './signature.ts'
import { FORMATS, type PushFormat, type Target } from './target.ts'

/** Says all that is wrong with the push file, without the secrets in it. */
export class TargetsFileError extends Error {
  override readonly name = 'TargetsFileError'
}

export interface TargetsFileOptions {
  /** Reads the files that targets name. */
  readFile(path: string): string
  rules: TopicRules
}

/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1
const CONCURRENCY_MAX = 1000
const BATCH_MAX = 1000
const SECRET = 'another value, not shown as it may contain a secret'

/** Headers of the connection, and those that the bridge sets. */
const FORBIDDEN_HEADERS = {
  names:
    /^(host|connection|keep-alive|upgrade|te|trailer|expect|content-(length|type)|transfer-.*|webhook-.*|mqtt-.*)$/i,
  why: 'of the connection or of the bridge itself',
}

interface Field {
  expected: string
  isValid(value: unknown, rules: TopicRules): boolean
  isSecret?: boolean
}

const integer = (minimum: number, maximum: number): Field => ({
  expected: `an integer from ${minimum} to ${maximum}`,
  isValid: (value) => Number.isInteger(value) && (value as number) >= minimum && (value as number) <= maximum,
})
const path: Field = {
  expected: 'the path of a file',
  isValid: (value) => typeof value === 'string' && value !== '',
}

const FIELDS: Record<string, Field> = {
  name: {
    expected: '1 to 64 of the characters A-Z a-z 0-9 . _ -',
    isValid: (value) => typeof value === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(value),
  },
  topics: {
    expected: 'an array of at least one topic filter',
    isValid: (value) => Array.isArray(value) && value.length > 0 && value.every((topic) => typeof topic === 'string'),
  },
  url: {
    expected: 'an http: or https: URL without credentials',
    isValid: (value) =>
      typeof value === 'string' && /^https?:\/\/[^/?#@]+([/?#]|$)/i.test(value) && URL.canParse(value),
    isSecret: true,
  },
  format: {
    expected: `one of ${FORMATS.join(', ')}`,
    isValid: (value) => FORMATS.includes(value as PushFormat),
  },
  headers: {
    expected: 'an object of header names and values',
    isValid: (value) => isObject(value) && Object.values(value).every((each) => typeof each === 'string'),
    isSecret: true,
  },
  headersFile: path,
  secret: {
    expected: 'whsec_ and at least 16 bytes in base64, several separated by spaces',
    isValid: (value) => typeof value === 'string' && parseSecret(value) !== undefined,
    isSecret: true,
  },
  secretFile: path,
  concurrency: integer(1, CONCURRENCY_MAX),
  batch: integer(1, BATCH_MAX),
  timeoutMs: integer(1, MAX_TIMER_MS),
  attempts: integer(0, MAX_TIMER_MS),
  retryMaxMs: integer(1, MAX_TIMER_MS),
  deadLetterTopic: {
    expected: 'a topic without wildcards',
    isValid: (value, rules) => typeof value === 'string' && topicFault(value, rules) === undefined,
  },
  retained: { expected: 'true or false', isValid: (value) => typeof value === 'boolean' },
}
const REQUIRED = ['name', 'topics', 'url']
const DEFAULTS = {
  format: 'message' as const,
  concurrency: 1,
  batch: 1,
  timeoutMs: 10_000,
  attempts: 0,
  retryMaxMs: 60_000,
  retained: false,
}

interface Entry {
  name: string
  topics: string[]
  url: string
  format?: PushFormat
  headers?: Record<string, string>
  headersFile?: string
  secret?: string
  secretFile?: string
  concurrency?: number
  batch?: number
  timeoutMs?: number
  attempts?: number
  retryMaxMs?: number
  deadLetterTopic?: string
  retained?: boolean
}

/** @throws TargetsFileError with every fault at once */
export function parseTargetsFile(text: string, options: TargetsFileOptions): Target[] {
  const entries = parseJson(text)
  if (!Array.isArray(entries)) throw new TargetsFileError('expected an array of targets')
  const faults: string[] = []
  const targets: Target[] = []
  const names = new Set<unknown>()
  for (const [index, entry] of entries.entries()) {
    const place = `target ${index}`
    const found = entryFaults(entry, options.rules)
    if (isObject(entry) && entry['name'] !== undefined) {
      if (names.has(entry['name'])) found.push('name: expected one of its own, got that of an earlier target')
      names.add(entry['name'])
    }
    if (found.length === 0) {
      const { target, faults: inFiles } = targetOf(entry as Entry, options)
      found.push(...inFiles)
      targets.push(target)
    }
    faults.push(...found.map((fault) => `${place}: ${fault}`))
  }
  if (faults.length > 0) throw new TargetsFileError(faults.join('; '))
  return targets
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // No `cause`: the message of JSON.parse quotes the text, which may be a secret.
    throw new TargetsFileError('expected JSON')
  }
}

function entryFaults(entry: unknown, rules: TopicRules): string[] {
  if (!isObject(entry)) return ['expected an object']
  const faults = Object.keys(entry)
    .filter((key) => !Object.hasOwn(FIELDS, key))
    .map((key) => `expected only ${Object.keys(FIELDS).join(', ')}, got ${JSON.stringify(key)}`)
  for (const key of REQUIRED.filter((each) => entry[each] === undefined)) {
    faults.push(`${key}: expected ${FIELDS[key]!.expected}, got none`)
  }
  for (const [key, { expected, isValid, isSecret }] of Object.entries(FIELDS)) {
    const value = entry[key]
    if (value === undefined || isValid(value, rules)) continue
    faults.push(`${key}: expected ${expected}, got ${isSecret ? SECRET : JSON.stringify(value)}`)
  }
  if (FIELDS['topics']!.isValid(entry['topics'], rules)) {
    for (const filter of entry['topics'] as string[]) {
      const fault = filterFault(filter, rules)
      if (fault !== undefined) faults.push(`topics: ${JSON.stringify(filter)} ${fault}`)
    }
  }
  if (FIELDS['headers']!.isValid(entry['headers'], rules)) faults.push(...headerFaults(entry['headers'] as object))
  if (entry['secret'] !== undefined && entry['secretFile'] !== undefined) {
    faults.push('secretFile: expected either secret or secretFile, got both')
  }
  if (entry['format'] === 'raw' && Number(entry['batch'] ?? 1) > 1) {
    faults.push('batch: expected 1 with the format raw, which has one message in each request')
  }
  return faults
}

function headerFaults(headers: object): string[] {
  return Object.entries(headers).flatMap(([name, value]) => {
    try {
      validateHeaderName(name)
      validateHeaderValue(name, value)
    } catch {
      return [
        `headers: expected a header name and a value of printable characters, got others in ${JSON.stringify(name)}`,
      ]
    }
    return FORBIDDEN_HEADERS.names.test(name)
      ? [`headers: expected no header ${FORBIDDEN_HEADERS.why}, got ${name}`]
      : []
  })
}

function targetOf(entry: Entry, { readFile }: TargetsFileOptions): { target: Target; faults: string[] } {
  const { secret, secretFile, headers = {}, headersFile, deadLetterTopic, topics, ...rest } = entry
  const faults: string[] = []
  function read<Result>(field: string, file: string, parse: (text: string) => Result): Result | undefined {
    try {
      return parse(readFile(file))
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      faults.push(`${field} ${file}: ${code === undefined ? message : `expected a readable file (${code})`}`)
      return undefined
    }
  }
  const fromFile =
    headersFile === undefined
      ? {}
      : read('headersFile', headersFile, (text) => parseHeaderLines(text, FORBIDDEN_HEADERS))
  const given = secretFile === undefined ? secret : read('secretFile', secretFile, (text) => text)
  const keys = given === undefined ? [] : parseSecret(given)
  if (keys === undefined) faults.push(`secretFile ${secretFile}: expected ${FIELDS['secret']!.expected}, got ${SECRET}`)
  const target = {
    ...DEFAULTS,
    ...rest,
    topics: [...new Set(topics)],
    deadLetterTopic,
    headers: { ...headers, ...fromFile },
    keys: keys ?? [],
  }
  return { target, faults }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
