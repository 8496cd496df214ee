import Type from 'typebox'

const QOS = 'QoS 0, 1 or 2'

const Properties = Type.Object(
  {
    contentType: Type.Optional(Type.String({ format: 'mqtt-string' })),
    responseTopic: Type.Optional(Type.String({ format: 'mqtt-topic' })),
    correlationData: Type.Optional(Type.String({ format: 'base64', maxLength: 87_380, description: 'Base64' })),
    messageExpiryInterval: Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295, description: 'Seconds' })),
    payloadFormatIndicator: Type.Optional(Type.Boolean({ description: 'Whether the payload is UTF-8 text' })),
    userProperties: Type.Optional(
      // No record of TypeBox's: its pattern of any name is one that names with a line separator do not match.
      Type.Unsafe<Record<string, string | string[]>>({
        type: 'object',
        // Two types in one schema and not a union of two: a fault is reported where it is, once.
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

const payloadOf = (encoding: string, payload: object) => ({
  if: { properties: { encoding: { const: encoding } }, required: ['encoding'] },
  // oxlint-disable-next-line no-thenable -- JSON schema's own word
  then: { properties: { payload } },
})

export const MessageSchema = Type.Object(
  {
    topic: Type.String({ format: 'mqtt-topic', description: 'Topic name: no wildcards, no control characters' }),
    payload: Type.Optional(
      Type.Unknown({ format: 'text', default: '', description: 'A string, or with encoding json any JSON value' }),
    ),
    encoding: Type.Optional(
      Type.Enum(['utf8', 'base64', 'json'], {
        description: 'Of the payload; utf8 for a string, json for any other value',
      }),
    ),
    qos: Type.Optional(Type.Integer({ enum: [0, 1, 2], default: 1, description: QOS })),
    retain: Type.Optional(Type.Boolean({ default: false })),
    properties: Type.Optional(Properties),
    redelivered: Type.Optional(Type.Boolean({ description: 'Ignored; events may carry it' })),
  },
  {
    additionalProperties: false,
    allOf: [payloadOf('base64', { type: 'string', format: 'base64' }), payloadOf('utf8', { type: 'string' })],
  },
)

const RAW_ONLY = { qos: ['topic'], retain: ['topic'], expiry: ['topic'] }

export const PublishQuerySchema = Type.Object(
  {
    topic: Type.Optional(
      Type.String({ format: 'mqtt-topic', description: 'Makes the body the payload, byte for byte' }),
    ),
    qos: Type.Optional(Type.Integer({ enum: [0, 1, 2], description: `${QOS}; 1 unless given` })),
    retain: Type.Optional(
      Type.Boolean({ description: 'Whether the broker keeps the message for those who subscribe later' }),
    ),
    expiry: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4_294_967_295,
        description: 'Seconds the broker keeps the message for clients that are away; MQTT 5 only',
      }),
    ),
  },
  { additionalProperties: false, dependentRequired: RAW_ONLY },
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
  { additionalProperties: false, dependentRequired: RAW_ONLY },
)

export const IdempotencyHeaderSchema = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      description:
        'The same key and request get the first answer again, and make one message; a string in double quotes',
    }),
  ),
})

const nullable = <Schema extends object>(schema: Schema, description: string) => ({
  anyOf: [schema, { type: 'null' }],
  description,
})

export const PublishResultSchema = Type.Object({
  topic: Type.String(),
  qos: Type.Integer(),
  reasonCode: Type.Unsafe<number | null>(
    nullable({ type: 'integer' }, 'From PUBACK, PUBREC or PUBCOMP; null for QoS 0 and over MQTT 3.1.1'),
  ),
  reason: Type.Unsafe<string | null>(nullable({ type: 'string' }, 'The reason code in words')),
  matchedSubscribers: Type.Unsafe<boolean | null>(
    nullable({ type: 'boolean' }, 'Whether anybody subscribes to the topic; null where the broker does not say'),
  ),
})

export const SubscribeQuerySchema = (filtersMax: number) =>
  Type.Object(
    {
      topic: Type.Array(Type.String({ format: 'mqtt-filter' }), {
        minItems: 1,
        maxItems: filtersMax,
        examples: [['home/#']],
        description: 'Topic filter; may be repeated. `+` means `+`; `#` has to be sent as `%23`',
      }),
      qos: Type.Integer({ enum: [0, 1, 2], default: 1, description: `${QOS}, asked of the broker` }),
      retained: Type.Boolean({ default: true, description: 'Begin with the retained messages that match' }),
      slow: Type.Enum(['gap', 'latest', 'close'], {
        default: 'gap',
        description:
          'Once the log has overtaken a slow reader: skip with a `gap`, skip to the newest message of each topic, or end the stream',
      }),
      encoding: Type.Optional(Type.Enum(['json'], { description: 'Embed payloads that are JSON as JSON' })),
      lastEventId: Type.Optional(
        Type.String({ description: 'As the Last-Event-ID header, for clients that cannot set one' }),
      ),
      session: Type.Optional(
        Type.String({
          minLength: 1,
          maxLength: 256,
          format: 'mqtt-string',
          description: 'Name of a durable session: the broker keeps what its reader has not had',
        }),
      ),
      ack: Type.Optional(
        Type.Enum(['auto', 'explicit'], {
          description:
            'Of a session: messages are done with once they have left for the reader’s socket, or once the reader says so',
        }),
      ),
    },
    { additionalProperties: false, dependentRequired: { ack: ['session'] } },
  )

export const AckBodySchema = Type.Object(
  { id: Type.String({ maxLength: 256, description: 'Id of an event; all up to it is done with' }) },
  { additionalProperties: false, examples: [{ id: '25da8d536543642070bde78e5e18-1' }] },
)

export const SessionParamsSchema = Type.Object({
  id: Type.String({
    maxLength: 128,
    examples: ['5feceb66ffc8-6b86b273ff34fce19d6b'],
    description: 'From the `session` event',
  }),
})

export const AckResultSchema = Type.Object({
  acknowledged: Type.Integer({ description: 'Messages that were not acknowledged before' }),
  unacknowledged: Type.Integer({ description: 'Messages the reader may have and has not acknowledged' }),
})

export const SessionInfoSchema = Type.Object({
  id: Type.String(),
  name: Type.String(),
  filters: Type.Array(Type.String()),
  ack: Type.String(),
  connected: Type.Boolean({ description: 'Whether its reader is connected' }),
  unacknowledged: Type.Integer({ description: 'Messages the reader may have and has not acknowledged' }),
})

export const TopicQuerySchema = Type.Object(
  { topic: Type.String({ format: 'mqtt-topic', examples: ['home/temp'], description: 'Topic name: no wildcards' }) },
  { additionalProperties: false },
)

export const RetainedQuerySchema = Type.Object(
  {
    topic: Type.String({
      format: 'mqtt-plain-filter',
      examples: ['home/temp'],
      description: 'Topic or filter; `#` has to be sent as `%23`',
    }),
    encoding: Type.Optional(Type.Enum(['json'], { description: 'Embed payloads that are JSON as JSON, in an array' })),
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
        description: 'Every fault of the request, with a JSON pointer',
      }),
    ),
  },
  { $id: 'Problem', description: 'RFC 9457' },
)
