import { isUtf8 } from 'node:buffer'
import type { FastifyBodyParser, FastifyInstance, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { fromJson, type JsonMessage, type Message, type QoS } from '../../mqtt/message.ts'
import { stringFault } from '../../mqtt/topic.ts'

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
export function acceptMessages(app: FastifyInstance): void {
  // `__proto__` is a name like any other to a bridge: validation knows where names may be any, and nothing here merges objects by assignment.
  const parseJson = app.getDefaultJsonParser('ignore', 'ignore')
  app.removeAllContentTypeParsers()
  const parse: FastifyBodyParser<Buffer> = (request, body, done) => {
    if (isRaw(request.query)) return done(null, body)
    if (!JSON_TYPE.test(request.headers['content-type'] ?? '')) {
      return done(
        new CausewayError(
          'unsupported-media-type',
          'Send the message as application/json, or name the topic in the query to send the payload as it is',
        ),
      )
    }
    if (!isUtf8(body)) return done(new CausewayError('invalid-request', 'The body is not valid UTF-8'))
    return parseJson(request, body.toString(), done)
  }
  // `*` takes what has no type as well, but Fastify remembers the parser of a type only where a pattern found it.
  for (const type of [/^./, '*']) app.addContentTypeParser(type, { parseAs: 'buffer' }, parse)
  app.addHook('onRequest', (request, _reply, done) => {
    // Fastify refuses a type it cannot parse; as that of a payload any text will do.
    if (isRaw(request.query)) delete request.raw.headers['content-type']
    done()
  })
  app.addHook('preValidation', (request, _reply, done) => {
    if (isRaw(request.query)) request.body ??= Buffer.alloc(0)
    // Fastify validates no body that is not there.
    else if (request.body === undefined) {
      return done(new CausewayError('invalid-request', 'The body is empty where JSON is expected'))
    }
    done()
  })
}

/** The message of a request that passed validation. */
export function messageOf({ query, body, headers, raw }: FastifyRequest): Message {
  const isBytes = Buffer.isBuffer(body)
  const message = isBytes ? rawMessage(body, query as RawQuery) : fromJson(body as JsonMessage)
  const contentType = isBytes ? contentTypeOf(sentType(raw)) : undefined
  const userProperties = traceOf(headers)
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

/** Content-Type as it came; HTTP/2 knows no `headersDistinct`. */
function sentType({ rawHeaders }: FastifyRequest['raw']): string | undefined {
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() === 'content-type') return rawHeaders[index + 1]
  }
  return undefined
}

function contentTypeOf(header: string | undefined): string | undefined {
  return header === undefined || header === CURL_DEFAULT_TYPE || stringFault(header) !== undefined ? undefined : header
}

function traceOf(headers: FastifyRequest['headers']): Record<string, string> | undefined {
  const trace: Record<string, string> = {}
  for (const name of TRACE_HEADERS) {
    const value = headers[name]?.toString()
    if (value !== undefined && stringFault(value) === undefined) trace[name] = value
  }
  return Object.keys(trace).length > 0 ? trace : undefined
}
