import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { type Parse, wholeBody } from '../server/read-body.ts'
import { fromJson, type JsonMessage, type Message, type QoS } from '../../mqtt/message.ts'
import { stringFault } from '../../mqtt/topic.ts'
import { payloadSource } from './payload-source.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** A body in JSON, from parsing to validation. */
    jsonText: string | undefined
    /** The text of `payload` in it, until `readMessage`. */
    payloadSource: string | undefined
  }
}

/** The query of a request whose body is the raw payload. */
export interface RawQuery {
  topic?: string
  qos?: number
  retain?: boolean
  expiry?: number
}

/**
 * JSON writes a control character of a payload as six, and one byte as 1.4 in base64. Besides the payload there are
 * topic and properties.
 */
const JSON_GROWTH = 6
const JSON_REST_BYTES = 1_048_576
/** The longest text that V8 makes. */
const TEXT_MAX = 536_870_888

/** Most bytes of a message in JSON, so that a payload of the largest size fits in, whatever its bytes are. */
export function jsonBytesMax(payloadMax: number): number {
  return Math.min(JSON_GROWTH * payloadMax + JSON_REST_BYTES, TEXT_MAX)
}

/** curl sends this with every `-d`, so it says nothing about the payload and is not forwarded. */
const CURL_DEFAULT_TYPE = 'application/x-www-form-urlencoded'
const JSON_TYPE = /^application\/json\s*(;|$)/i

/**
 * Makes all routes of this Fastify instance take a message in both forms: as JSON or, with `topic` in the query, as raw
 * bytes. `readMessage` reads either.
 * @param payloadMax most bytes of a payload
 */
export function acceptMessages(app: FastifyInstance, payloadMax: number): void {
  // Do not refuse `__proto__`: it may be the name of a user property or a member of a payload, which a bridge forwards.
  // Elsewhere validation refuses unknown names, and no code here merges parsed objects by assignment.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  const parse: Parse = (request, body, done, isView) => {
    if (isRaw(request.query)) return done(null, isView ? Buffer.from(body) : body)
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    request.jsonText = body.toString()
    return parseJson(request, request.jsonText, done)
  }
  // `*` also parses bodies without a type. The pattern parses all others, because Fastify caches parsers per type only
  // where a pattern matched.
  const bytesMax = ({ query }: FastifyRequest): number => (isRaw(query) ? payloadMax : jsonBytesMax(payloadMax))
  const parser = wholeBody(app, parse, refuseType, bytesMax)
  for (const type of [/^./, '*']) app.addContentTypeParser(type, parser)
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
    } else if (request.jsonText !== undefined) {
      try {
        // Before validation, which adds members that have a default.
        request.payloadSource = payloadSource(request.jsonText, request.body)
      } catch (error) {
        return done(error as CausewayError)
      }
      request.jsonText = undefined
    }
    done()
  })
}

/** Why a body of this type is not read. */
function refuseType({ query, headers }: FastifyRequest): CausewayError | undefined {
  const type = headers['content-type'] ?? ''
  if (type === 'application/json' || isRaw(query) || JSON_TYPE.test(type)) return undefined
  return new CausewayError(
    'unsupported-media-type',
    'Send the message as application/json, or put the topic into the query to send the body as the payload',
  )
}

/**
 * The message of a request that passed validation, in either form. The request does not keep its body any longer.
 * @throws CausewayError `payload-too-large`
 */
export function readMessage(request: FastifyRequest, payloadMax: number): Message {
  const { query, body, headers, raw } = request
  const isRawBody = Buffer.isBuffer(body)
  const message = isRawBody ? rawMessage(body, query as RawQuery) : fromJson(body as JsonMessage, request.payloadSource)
  request.body = undefined
  request.payloadSource = undefined
  requirePayloadSize(message, payloadMax)
  const contentType = isRawBody ? forwardedType(contentTypeHeader(raw)) : undefined
  const userProperties = traceContextOf(headers)
  if (contentType === undefined && userProperties === undefined) return message
  return {
    ...message,
    ambient: { ...(contentType !== undefined && { contentType }), ...(userProperties && { userProperties }) },
  }
}

/** @throws CausewayError `payload-too-large` */
export function requirePayloadSize({ payload }: Message, payloadMax: number): void {
  if (payload.length <= payloadMax) return
  throw new CausewayError(
    'payload-too-large',
    `The payload has ${payload.length} bytes; CAUSEWAY_BODY_LIMIT_BYTES allows ${payloadMax}`,
  )
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

/** W3C trace context. By convention the MQTT user properties have the same names as the headers. */
function traceContextOf({ traceparent, tracestate }: FastifyRequest['headers']): Record<string, string> | undefined {
  if (traceparent === undefined && tracestate === undefined) return undefined
  const trace: Record<string, string> = {}
  for (const [name, header] of Object.entries({ traceparent, tracestate })) {
    const value = header?.toString()
    if (value !== undefined && stringFault(value) === undefined) trace[name] = value
  }
  return Object.keys(trace).length > 0 ? trace : undefined
}
