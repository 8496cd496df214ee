import type { SlowPolicy } from '../../stream/reader.ts'
import { Type } from '../../schema-type.ts'

const QOS = 'QoS 0, 1 or 2'
const ENCODE_HASH = '`#` has to be sent as `%23`'

const Properties = Type.Object(
  {
    contentType: Type.Optional(Type.String({ format: 'mqtt-string' })),
    responseTopic: Type.Optional(Type.String({ format: 'mqtt-topic' })),
    correlationData: Type.Optional(Type.String({ format: 'base64', maxLength: 87_380, description: 'Base64' })),
    messageExpiryInterval: Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295, description: 'Seconds' })),
    payloadFormatIndicator: Type.Optional(Type.Boolean({ description: 'Whether the payload is UTF-8 text' })),
    userProperties: Type.Optional(
      // Not TypeBox's Record: its pattern for any name does not match names with a line separator.
      Type.Unsafe<Record<string, string | string[]>>({
        type: 'object',
        // One schema with two types, not a union of two schemas: a union would report each fault several times.
        additionalProperties: {
          type: ['string', 'array'],
          format: 'mqtt-string',
          items: { type: 'string', format: 'mqtt-string' },
        },
        propertyNames: { format: 'mqtt-string' },
      }),
    ),
  },
  { additionalProperties: false, description: 'MQTT 5 only' },
)

/** Text in JSON may have lone surrogates as escapes. It is sent as it is. */
const TEXT_UNLESS_JSON = {
  if: { properties: { encoding: { const: 'json' } }, required: ['encoding'] },
  else: { properties: { payload: { format: 'text' } } },
}

const payloadOf = (encoding: string, payload: object) => ({
  if: { properties: { encoding: { const: encoding } }, required: ['encoding'] },
  // oxlint-disable-next-line no-thenable -- `then` is a keyword of JSON Schema
  then: { properties: { payload } },
})

export const MessageSchema = Type.Object(
  {
    topic: Type.String({ format: 'mqtt-topic', description: 'Topic name: no wildcards, no control characters' }),
    payload: Type.Optional(
      Type.Unknown({
        default: '',
        description: 'A string. With encoding `json` any JSON value, sent as the text that it has here',
      }),
    ),
    encoding: Type.Optional(
      Type.Enum(['utf8', 'base64', 'json'], {
        description: 'How `payload` holds the bytes to send. Default: `utf8` for a string, `json` for any other value',
      }),
    ),
    qos: Type.Optional(Type.Integer({ enum: [0, 1, 2], default: 1, description: QOS })),
    retain: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Whether the broker keeps the message for clients that subscribe later',
      }),
    ),
    properties: Type.Optional(Properties),
    redelivered: Type.Optional(
      Type.Boolean({
        description: 'In an event: this reader, or an earlier one, may have had it. When publishing, it is ignored',
      }),
    ),
  },
  {
    title: 'Message',
    description: 'The same in both directions: what a stream delivers can be published unchanged',
    additionalProperties: false,
    allOf: [
      TEXT_UNLESS_JSON,
      payloadOf('base64', { type: 'string', format: 'base64' }),
      payloadOf('utf8', { type: 'string' }),
    ],
  },
)

/** Parameters that make sense only where the body is the raw payload. In JSON they are members of the message. */
const NEEDS_TOPIC = { qos: ['topic'], retain: ['topic'], expiry: ['topic'] }

export const PublishQuerySchema = Type.Object(
  {
    topic: Type.Optional(
      Type.String({
        format: 'mqtt-topic',
        description: 'Topic to publish to. With it, the body is the payload, byte for byte',
      }),
    ),
    qos: Type.Optional(Type.Integer({ enum: [0, 1, 2], description: `${QOS}. Default: 1` })),
    retain: Type.Optional(
      Type.Boolean({ description: 'Whether the broker keeps the message for clients that subscribe later' }),
    ),
    expiry: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4_294_967_295,
        description: 'Seconds after which the broker discards a message that it could not deliver yet. MQTT 5 only',
      }),
    ),
  },
  { additionalProperties: false, dependentRequired: NEEDS_TOPIC },
)

export const RequestQuerySchema = Type.Object(
  {
    ...PublishQuerySchema.properties,
    timeout: Type.Integer({
      minimum: 1,
      maximum: 300_000,
      default: 5000,
      description: 'How long to wait for the reply, in milliseconds',
    }),
  },
  { additionalProperties: false, dependentRequired: NEEDS_TOPIC },
)

export const IdempotencyHeaderSchema = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      description:
        'A string in double quotes that identifies this request. A retry with the same key publishes nothing and ' +
        'gets the first answer again',
    }),
  ),
})

const nullable = <Schema extends object>(schema: Schema, description: string) => ({
  anyOf: [schema, { type: 'null' }],
  description,
})

const RESULT = {
  topic: Type.String(),
  qos: Type.Integer({ description: 'The QoS that was acknowledged: 1 if the broker answers QoS 2 with PUBACK' }),
  reasonCode: Type.Unsafe<number | null>(
    nullable({ type: 'integer' }, 'From PUBACK, PUBREC or PUBCOMP; null for QoS 0 and over MQTT 3.1.1'),
  ),
  reason: Type.Unsafe<string | null>(nullable({ type: 'string' }, 'The name of the reason code')),
  matchedSubscribers: Type.Unsafe<boolean | null>(
    nullable({ type: 'boolean' }, 'Whether any client subscribes to the topic; null where it is not known'),
  ),
}

export const PublishResultSchema = Type.Object(RESULT, { title: 'PublishResult' })

/** Typed by the policies there are, so that a new one cannot be missing here. */
const SLOW_POLICIES = {
  gap: 'skip to the oldest event that is left, with a `gap` event',
  latest: 'skip to the newest message of each topic',
  close: 'end the stream',
} satisfies Record<SlowPolicy, string>

export const SubscribeQuerySchema = (filtersMax: number) =>
  Type.Object(
    {
      topic: Type.Array(Type.String({ format: 'mqtt-filter' }), {
        minItems: 1,
        maxItems: filtersMax,
        examples: [['home/#']],
        description: `Topic filter; may be repeated. \`+\` means \`+\`; ${ENCODE_HASH}`,
      }),
      qos: Type.Integer({ enum: [0, 1, 2], default: 1, description: `${QOS}, the highest to receive messages with` }),
      retained: Type.Boolean({ default: true, description: 'Begin with the retained messages that match' }),
      slow: Type.Enum(Object.keys(SLOW_POLICIES) as SlowPolicy[], {
        default: 'gap',
        description:
          'What to do when the reader is so slow that events it has not read are overwritten. ' +
          Object.entries(SLOW_POLICIES)
            .map(([name, effect]) => `\`${name}\`: ${effect}`)
            .join('; '),
      }),
      encoding: Type.Optional(
        Type.Enum(['json'], { description: 'Embed payloads that are valid JSON as JSON values, not as strings' }),
      ),
      lastEventId: Type.Optional(
        Type.Array(Type.String(), {
          description:
            'The same as the Last-Event-ID header, for clients that cannot set it. Given more than once, the last ' +
            'one counts; an empty one is none',
        }),
      ),
      session: Type.Optional(
        Type.String({
          minLength: 1,
          maxLength: 256,
          format: 'mqtt-string',
          description: 'Name of a durable session: the broker keeps messages while the reader is away',
        }),
      ),
      ack: Type.Optional(
        Type.Enum(['auto', 'explicit'], {
          description:
            'When a session acknowledges messages to the broker: `auto` once they are written to the reader’s ' +
            'socket, `explicit` once the reader acknowledges them',
        }),
      ),
    },
    { additionalProperties: false, dependentRequired: { ack: ['session'] } },
  )

export const AckBodySchema = Type.Object(
  { id: Type.String({ maxLength: 256, description: 'Id of an event. Acknowledges this event and all before it' }) },
  {
    title: 'Acknowledge',
    additionalProperties: false,
    examples: [{ id: '25da8d536543642070bde78e5e18-1' }],
  },
)

export const SessionParamsSchema = Type.Object({
  id: Type.String({
    maxLength: 128,
    examples: ['5feceb66ffc8-6b86b273ff34fce19d6b'],
    description: 'Session id from the `session` event',
  }),
})

export const AckResultSchema = Type.Object(
  {
    acknowledged: Type.Integer({ description: 'Number of messages that this request acknowledged' }),
    unacknowledged: Type.Integer({ description: 'Number of messages sent to the reader and not yet acknowledged' }),
  },
  { title: 'Acknowledged' },
)

export const SessionInfoSchema = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    filters: Type.Array(Type.String()),
    ack: Type.String(),
    connected: Type.Boolean({ description: 'Whether its reader is connected' }),
    unacknowledged: Type.Integer({ description: 'Number of messages sent to the reader and not yet acknowledged' }),
  },
  { title: 'Session' },
)

export const TopicQuerySchema = Type.Object(
  { topic: Type.String({ format: 'mqtt-topic', examples: ['home/temp'], description: 'Topic name: no wildcards' }) },
  { additionalProperties: false },
)

export const RetainedQuerySchema = Type.Object(
  {
    topic: Type.String({
      format: 'mqtt-plain-filter',
      examples: ['home/temp'],
      description: `Topic or filter; ${ENCODE_HASH}`,
    }),
    encoding: Type.Optional(
      Type.Enum(['json'], {
        description: 'In an array of messages, embed payloads that are valid JSON as JSON values, not as strings',
      }),
    ),
  },
  { additionalProperties: false },
)

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String({ description: 'Stable name of the problem' }),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later' }),
    mqtt: Type.Optional(
      Type.Object({ reasonCode: Type.Integer(), reason: Type.String() }, { description: 'What the broker answered' }),
    ),
    outcome: Type.Optional(
      Type.Enum(['unknown', 'not-sent'], { type: 'string', description: 'Whether the message reached the broker' }),
    ),
    errors: Type.Optional(
      Type.Array(Type.Object({ in: Type.String(), pointer: Type.String(), detail: Type.String() }), {
        description: 'The faults of an invalid request, at most 50, each with a JSON pointer to it',
      }),
    ),
  },
  { $id: 'Problem', title: 'Problem', description: 'Problem document (RFC 9457)' },
)

/** @param line the schema of a line */
export const ndjsonOf = (line: object, description: string) =>
  ({ type: 'string', contentMediaType: 'application/x-ndjson', contentSchema: line, description }) as const

const INDEX = {
  index: Type.Integer({ description: 'Number of the message in the batch, from 0' }),
  line: Type.Optional(Type.Integer({ description: 'NDJSON only: number of its line, from 1' })),
}

export const BatchPublishedSchema = Type.Object(
  { ...INDEX, status: Type.Integer({ description: '200, or 202 for QoS 0' }), ...RESULT },
  { title: 'BatchPublished', description: 'The message was published' },
)

export const BatchFailedSchema = Type.Object(
  { ...INDEX, problem: ProblemSchema },
  { title: 'BatchFailed', description: 'The message was not published, or its outcome is not known' },
)

/** The result of one message of a batch. */
export const BatchResultSchema = Type.Union([BatchPublishedSchema, BatchFailedSchema], { title: 'BatchResult' })

/** The last line of the answer to an NDJSON batch. */
export const BatchEndSchema = Type.Object(
  {
    end: Type.Boolean(),
    read: Type.Integer({ description: 'Number of messages that were read' }),
    published: Type.Integer({ description: 'Number of messages that were published' }),
  },
  { title: 'BatchEnd', description: 'The last line of an answer in NDJSON. Without it, the answer was cut short' },
)
