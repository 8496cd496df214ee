import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../errors.ts'
import { fromJson, type JsonMessage, type Message, type QoS } from '../mqtt/message.ts'
import { stringFault } from '../mqtt/topic.ts'

/** The query of the raw form. */
export interface RawQuery {
  topic?: string
  qos?: number
  retain?: boolean
  expiry?: number
}

/** curl sends it with every `-d`, so it says nothing about the payload. */
const CURL_DEFAULT_TYPE = 'application/x-www-form-urlencoded'
const JSON_TYPE = /^application\/json\s*(;|$)/i
/** Trace context travels under the same names as user properties, by convention. */
const TRACE_HEADERS = ['traceparent', 'tracestate']

/** Makes a plugin's routes take a message in both forms: as JSON or, with `topic` in the query, as raw bytes. */
export function takeMessages(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (isRaw(request.query)) return done(null, body)
    if (!JSON_TYPE.test(request.headers['content-type'] ?? '')) {
      return done(new CausewayError('unsupported-media-type', 'Send the message as application/json, or name the topic in the query to send the payload as it is'))
    }
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    return parseJson(request, body.toString(), done)
  })
  app.addHook('onRequest', async (request) => {
    // Fastify refuses a type it cannot parse; as that of a payload any text will do.
    if (isRaw(request.query)) delete request.raw.headers['content-type']
  })
  app.addHook('preValidation', async (request) => {
    if (isRaw(request.query) && request.body == null) request.body = Buffer.alloc(0)
  })
}

/** The message of a request that passed validation. Without properties (MQTT 3.1.1) only those asked for expressly stay. */
export function messageOf({ query, body, raw }: FastifyRequest, takesProperties: boolean): Message {
  const contentType = takesProperties ? contentTypeOf(raw.headersDistinct['content-type']?.[0]) : undefined
  return Buffer.isBuffer(body) ? rawMessage(body, query as RawQuery, contentType) : fromJson(body as JsonMessage)
}

function isRaw(query: unknown): boolean {
  return (query as RawQuery).topic !== undefined
}

function rawMessage(payload: Buffer, { topic, qos, retain, expiry }: RawQuery, contentType: string | undefined): Message {
  const properties = {
    ...(contentType !== undefined && { contentType }),
    ...(expiry !== undefined && { messageExpiryInterval: expiry }),
  }
  return {
    topic: topic!,
    payload,
    qos: (qos ?? 1) as QoS,
    retain: retain ?? false,
    properties: Object.keys(properties).length > 0 ? properties : undefined,
  }
}

function contentTypeOf(header: string | undefined): string | undefined {
  return header === undefined || header === CURL_DEFAULT_TYPE || stringFault(header) !== undefined ? undefined : header
}

/** The message with the trace context of a request's headers, which what it says itself goes before. */
export function withTrace(message: Message, headers: FastifyRequest['headers']): Message {
  const trace: Record<string, string> = {}
  for (const name of TRACE_HEADERS) {
    const value = headers[name]?.toString()
    if (value !== undefined && stringFault(value) === undefined) trace[name] = value
  }
  if (Object.keys(trace).length === 0) return message
  return { ...message, properties: { ...message.properties, userProperties: { ...trace, ...message.properties?.userProperties } } }
}
