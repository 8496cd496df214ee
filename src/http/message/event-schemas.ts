import type { AckMode, EventName, GapReason } from '../../stream/events.ts'
import { MessageSchema } from './schemas.ts'
import { Type } from '../../schema-type.ts'

/** Typed by the reasons there are, so that a new one cannot be missing here. */
export const GAP_REASONS = {
  'unknown-id': 'the reader’s last event is not known here, or no longer',
  overrun: 'the reader was slower than the log',
  'broker-session-lost': 'the broker lost what it kept while the connection was lost',
  'broker-connection-lost': 'the connection was lost, and the broker does not keep all messages',
  'message-too-large': 'one message is larger than `CAUSEWAY_STREAM_LOG_BYTES`, or than JSON text can be',
  'broker-queue': 'the broker’s queue was full or nearly so, so it may have dropped messages',
  'retained-unknown': 'retained messages could not be read in time, or not be told from live ones',
  'subscription-refused': 'the broker does not grant a filter any more; the stream ends',
} satisfies Record<GapReason, string>

const ACK_MODES = ['auto', 'explicit'] satisfies AckMode[]

const event = (name: EventName, title: string, description: string, data: object) =>
  Type.Object(
    {
      event: Type.Enum([name]),
      id: Type.Optional(Type.String({ description: 'Continue after it with `Last-Event-ID`' })),
      data: Type.Unsafe(data),
    },
    { title, description },
  )

const MessageEventSchema = event('message', 'MessageEvent', 'A message', MessageSchema)

const GapEventSchema = event(
  'gap',
  'GapEvent',
  'Messages may be missing here',
  Type.Object({
    reason: Type.Enum(Object.keys(GAP_REASONS), {
      description: Object.entries(GAP_REASONS)
        .map(([reason, meaning]) => `\`${reason}\`: ${meaning}`)
        .join('; '),
    }),
    dropped: Type.Optional(Type.Integer({ description: 'How many messages are missing, where that is known' })),
    detail: Type.Optional(Type.String({ description: 'What the broker said, where it refused a filter' })),
  }),
)

const StatusEventSchema = event(
  'status',
  'StatusEvent',
  'How the connection to the broker is, at the beginning and whenever that changes; or why the stream ends',
  Type.Object({
    broker: Type.Optional(Type.Enum(['connected', 'disconnected'])),
    qos: Type.Optional(
      Type.Integer({ description: 'The highest QoS of the messages, where the broker granted less than asked for' }),
    ),
    session: Type.Optional(Type.Enum(['taken-over', 'deleted'], { description: 'The stream ends' })),
    credentials: Type.Optional(Type.Enum(['expired', 'revoked'], { description: 'The stream ends' })),
  }),
)

const SessionEventSchema = event(
  'session',
  'SessionEvent',
  'The first event of a stream of a durable session',
  Type.Object({
    id: Type.String({ description: 'For `POST /sessions/{id}/ack` and `DELETE /sessions/{id}`' }),
    name: Type.String(),
    present: Type.Boolean({ description: 'Whether the broker had the session already' }),
    unacknowledgedLimit: Type.Integer({ description: 'Most messages that may be with the reader unacknowledged' }),
    ack: Type.Enum(ACK_MODES),
    expiry: Type.Optional(
      Type.Integer({ description: 'Seconds for which the broker keeps it without a reader, where it said so' }),
    ),
    unknown: Type.Optional(
      Type.Boolean({ description: 'Another process had the session; nobody knows what its last reader got' }),
    ),
  }),
)

const HeartbeatSchema = Type.Object(
  { event: Type.Enum(['heartbeat']) },
  { title: 'Heartbeat', description: 'NDJSON only. In an event stream it is a comment' },
)

/**
 * What a line of an NDJSON stream is. In an event stream, `event`, `id` and `data` are the fields of a block, and
 * `message` is the event without a name.
 */
export const EventSchema = Type.Union(
  [MessageEventSchema, GapEventSchema, StatusEventSchema, SessionEventSchema, HeartbeatSchema],
  { title: 'Event', description: 'A line of an NDJSON stream. An event stream has the same, as `id`, `event`, `data`' },
)

/** The schemas of events by name, for the document. */
export const EVENT_SCHEMAS = [
  EventSchema,
  MessageEventSchema,
  GapEventSchema,
  StatusEventSchema,
  SessionEventSchema,
  HeartbeatSchema,
]
