import { isUtf8 } from 'node:buffer'
import type { FastifyBodyParser, FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { wholeBody } from '../server/read-body.ts'
import { fromJson, type JsonMessage, type Message, type QoS } from '../../mqtt/message.ts'
import { stringFault } from '../../mqtt/topic.ts'

/** The query of a request whose body is the raw payload. */
export interface RawQuery {
  topic?: string
  qos?: number
  retain?: boolean
  expiry?: number
}

/** curl sends this with every `-d`, so it says nothing about the payload and is not forwarded. */
const CURL_DEFAULT_TYPE = 'application/x-www-form-urlencoded'
const JSON_TYPE = /^application\/json\s*(;|$)/i
/** W3C trace context. By convention the MQTT user properties have the same names as the headers. */
const TRACE_HEADERS = ['traceparent', 'tracestate']

/**
 * Makes all routes of this Fastify instance take a message in both forms: as JSON or, with `topic` in the query, as raw
 * bytes. `readMessage` reads either.
 */
export function acceptMessages(app: FastifyInstance): void {
  // Do not refuse `__proto__`: it may be the name of a user property or a member of a payload, which a bridge forwards.
  // Elsewhere validation refuses unknown names, and no code here merges parsed objects by assignment.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  const parse: FastifyBodyParser<Buffer> = (request, body, done) => {
    if (isRaw(request.query)) return done(null, body)
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    return parseJson(request, body.toString(), done)
  }
  // `*` also parses bodies without a type. The pattern parses all others, because Fastify caches parsers per type only
  // where a pattern matched.
  for (const type of [/^./, '*']) app.addContentTypeParser(type, wholeBody(app, parse, refuseType))
  app.addHook('onRequest', (request, _reply, done) => {
    // Fastify answers 415 to a malformed Content-Type. A raw payload may have any, so hide it from Fastify.
    if (isRaw(request.query)) delete request.raw.headers['content-type']
    done()
  })
  app.addHook('preValidation', (request, _reply, done) => {
    if (isRaw(request.query)) request.body ??= Buffer.alloc(0)
    // Fastify skips the validation of a missing body.
    else if (request.body === undefined) {
      return done(new CausewayError('invalid-request', 'The body is empty where JSON is expected'))
    }
    done()
  })
}

/** Why a body of this type is not read. */
function refuseType({ query, headers }: FastifyRequest): CausewayError | undefined {
  if (isRaw(query) || JSON_TYPE.test(headers['content-type'] ?? '')) return undefined
  return new CausewayError(
    'unsupported-media-type',
    'Send the message as application/json, or put the topic into the query to send the body as the payload',
  )
}

/** The message of a request that passed validation, in either form. */
export function readMessage({ query, body, headers, raw }: FastifyRequest): Message {
  const isRawBody = Buffer.isBuffer(body)
  const message = isRawBody ? rawMessage(body, query as RawQuery) : fromJson(body as JsonMessage)
  const contentType = isRawBody ? forwardedType(contentTypeHeader(raw)) : undefined
  const userProperties = traceContextOf(headers)
  if (contentType === undefined && userProperties === undefined) return message
  return {
    ...message,
    ambient: { ...(contentType !== undefined && { contentType }), ...(userProperties && { userProperties }) },
  }
}

function isRaw(query: unknown): boolean {
  return (query as RawQuery).topic !== undefined
}

function rawMessage(payload: Buffer, { topic, qos, retain, expiry }: RawQuery): Message {
  return {
    topic: topic!,
    payload,
    qos: (qos ?? 1) as QoS,
    retain: retain ?? false,
    ...(expiry !== undefined && { properties: { messageExpiryInterval: expiry } }),
  }
}

/** The Content-Type that the client sent, which `acceptMessages` hid. `headersDistinct` does not exist in HTTP/2. */
function contentTypeHeader({ rawHeaders }: FastifyRequest['raw']): string | undefined {
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() === 'content-type') return rawHeaders[index + 1]
  }
  return undefined
}

function forwardedType(header: string | undefined): string | undefined {
  return header === undefined || header === CURL_DEFAULT_TYPE || stringFault(header) !== undefined ? undefined : header
}

function traceContextOf(headers: FastifyRequest['headers']): Record<string, string> | undefined {
  const trace: Record<string, string> = {}
  for (const name of TRACE_HEADERS) {
    const value = headers[name]?.toString()
    if (value !== undefined && stringFault(value) === undefined) trace[name] = value
  }
  return Object.keys(trace).length > 0 ? trace : undefined
}
