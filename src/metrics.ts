import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { QUESTION_RESULTS, type QuestionResult, QUESTIONS, type Question } from './cluster/messages.ts'
import type { ProblemCode } from './errors.ts'
import { IDEMPOTENCY_RESULTS, type IdempotencyResult } from './http/message/idempotency.ts'
import { PURPOSES, type Purpose } from './memory/account.ts'
import { type CounterSeries, PlainCounter } from './metrics/counter.ts'
import { gauge, type GaugeOptions, type Part } from './metrics/gauge.ts'
import { type HistogramSeries, PlainHistogram } from './metrics/histogram.ts'
import type { Labels } from './metrics/labels.ts'
import { CONNECTION_ROLES, CONNECTION_STATES, type ConnectionRole } from './mqtt/connection/broker.ts'
import { PUBLISH_OUTCOMES, type PublishOutcome } from './mqtt/publish/publisher.ts'
import { REPLY_RESULTS, type ReplyResult } from './mqtt/requester.ts'
import { PUSH_OUTCOMES, type PushOutcome } from './push/delivery.ts'
import { CLOSE_REASONS, type CloseReason, GAP_REASONS, type GapReason } from './stream/events.ts'
import { FORMAT_NAMES } from './stream/formats/choose.ts'

const ACK_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const HTTP_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

const QOS = ['0', '1', '2'] as const
/** What a publish that the broker refused, or would refuse, is answered with. */
const PUBLISH_REJECTIONS: readonly ProblemCode[] = [
  'topic-invalid',
  'not-authorized',
  'payload-too-large',
  'payload-format-invalid',
  'retain-not-supported',
  'qos-not-supported',
  'properties-not-supported',
  'quota-exceeded',
  'broker-refused',
]
/** How authentication may end. */
const AUTHENTICATION_RESULTS: readonly ('accepted' | ProblemCode)[] = [
  'accepted',
  'unauthorized',
  'forbidden',
  'rate-limited',
  'too-many-attempts',
  'too-many-callers',
  'keys-unavailable',
  'broker-unavailable',
  'acknowledgement-timeout',
  'internal',
]
const LIMITS = [
  'connections',
  'connections-address',
  'rate-identity',
  'rate-address',
  'streams',
  'streams-identity',
  'streams-address',
] as const

type Limit = (typeof LIMITS)[number]

/** An amount, and how large it may become. */
export interface Level {
  value: () => number | Promise<number>
  limit: () => number
}

/** Values that other parts of the bridge know. They are read on each scrape. */
export interface Gauges {
  links: Level
  publishInFlight: Level
  /** Of these, how many are not sent yet. */
  publishWaiting: () => number
  /** Since the oldest one was accepted; 0 where there is none. */
  publishOldestSeconds: () => number
  requestsWaiting: Level
  httpConnections: Level
  streamsLimit: () => number
  /** What each stream that is behind has still to get, as a part of its log: at 1 the next message makes a gap. */
  streamLags: () => readonly number[]
  subscriptionFilters: () => number
  sessionsOpen: Level
  sessionUnacknowledged: () => number
  /** Bytes held for callers, by purpose, and how many it may be in all. */
  heldBytes: () => Readonly<Record<Purpose, number>>
  heldBytesLimit: () => number
  isBrokerReachable: () => boolean
  /** Other replicas that are known. */
  replicas: () => number
  /** Whether Redis answers; undefined where none is configured. */
  redis: (() => boolean) | undefined
  connections: () => { role: string; state: string }[]
  /** The protocol and, where the broker said it, the Receive Maximum of each connection that is connected. */
  negotiated: () => { role: ConnectionRole; protocol: '5' | '3.1.1'; receiveMaximum: number | undefined }[]
  /** The push targets of this bridge. */
  pushes: () => { name: string; waiting: number; isActive: boolean }[]
}

export type Metrics = ReturnType<typeof createMetrics>

/** All metrics of one bridge. `text` and `openMetrics` are registries with the same metrics, one for each format. */
export function createMetrics(version: string) {
  const text = new Registry()
  const openMetrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
  openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const registers = [text, openMetrics] as Registry[]
  const counter = (name: string, help: string, labels: Labels = {}) => new PlainCounter(registers, name, help, labels)
  let gauges: Gauges | undefined
  /** @param read gets the values once they can be asked; until then the gauge is 0 */
  const asked = (
    name: string,
    help: string,
    read: (from: Gauges) => number | Promise<number>,
    ofWorkers: GaugeOptions['ofWorkers'] = 'sum',
  ) => gauge(registers, { name, help, ofWorkers }, async () => (gauges === undefined ? [] : [[[], await read(gauges)]]))
  const askedByLabels = (name: string, help: string, labels: Labels, read: (from: Gauges) => Part[]) =>
    gauge(registers, { name, help, labels }, () => (gauges === undefined ? [] : read(gauges)))
  /** A gauge and, as `…_limit`, how large it may become. */
  const limited = (name: string, help: string, level: (from: Gauges) => Level) => {
    asked(name, help, (from) => level(from).value())
    limitOf(name, (from) => level(from).limit())
  }
  const limitOf = (name: string, read: (from: Gauges) => number) => asked(`${name}_limit`, `Limit of ${name}`, read)

  // Collected once for both: a histogram of delays of the event loop has 0.4 MiB and a timer of 10 ms.
  collectDefaultMetrics({ register: text })
  for (const { name } of text.getMetricsAsArray()) openMetrics.registerMetric(text.getSingleMetric(name)!)
  new Gauge({
    name: 'causeway_build_info',
    help: 'Always 1; the labels have the versions',
    aggregator: 'first',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version, node: process.version }, 1)

  asked(
    'causeway_broker_reachable',
    'Whether the broker can be reached: 1 or 0',
    (from) => Number(from.isBrokerReachable()),
    'min',
  )
  const publishMessages = counter('causeway_publish_messages_total', 'Publishes, by outcome', {
    qos: QOS,
    outcome: PUBLISH_OUTCOMES,
  })
  const publishSeries = QOS.map(
    (qos) => new Map(PUBLISH_OUTCOMES.map((outcome) => [outcome, publishMessages.series(qos, outcome)])),
  )
  const publishBytes = counter(
    'causeway_publish_bytes_total',
    'Payload bytes that the broker acknowledged, or that were sent with QoS 0',
  ).series()
  const publishRejections = counter(
    'causeway_publish_rejections_total',
    'Publishes that the broker refused, or that were not sent as it would refuse them, by problem code',
    { reason: PUBLISH_REJECTIONS },
  )
  const publishAck = new PlainHistogram(
    registers,
    'causeway_publish_ack_seconds',
    'Time from accepting a publish to its acknowledgement',
    ACK_BUCKETS_S,
    { qos: ['1', '2'] },
  )
  const ackSeries = [undefined, publishAck.begin('1'), publishAck.begin('2')]
  /** Of `performance.now()`, which is 0 at the start of the process. A clock that is set does not change it. */
  let acknowledgedAtMs = 0
  asked(
    'causeway_publish_last_ack_age_seconds',
    'Time since the broker last acknowledged a publish; before the first one, since the start',
    () => (performance.now() - acknowledgedAtMs) / 1000,
    'min',
  )
  limited(
    'causeway_publish_in_flight',
    'Publishes that are accepted and not yet answered',
    ({ publishInFlight }) => publishInFlight,
  )
  asked('causeway_publish_waiting', 'Publishes in flight that are not sent yet', (from) => from.publishWaiting())
  asked(
    'causeway_publish_oldest_seconds',
    'Time since the oldest publish in flight was accepted',
    (from) => from.publishOldestSeconds(),
    'max',
  )

  const idempotency = counter(
    'causeway_idempotency_keys_total',
    'Requests with an Idempotency-Key, by the state of the key',
    { result: IDEMPOTENCY_RESULTS },
  )
  const replies = counter(
    'causeway_request_replies_total',
    'Replies to POST /request: delivered, too late, or for no request of this bridge',
    { result: REPLY_RESULTS },
  )
  limited(
    'causeway_requests_waiting',
    'POST /request calls that wait for their reply',
    ({ requestsWaiting }) => requestsWaiting,
  )

  const receivedMessages = counter('causeway_received_messages_total', 'Messages received from the broker', {
    qos: QOS,
  })
  const received = [receivedMessages.series('0'), receivedMessages.series('1'), receivedMessages.series('2')] as const
  const unmatched = counter(
    'causeway_unmatched_messages_total',
    'Messages received that match no filter and do not say for which one they were sent, so nobody gets them',
  ).series()
  const bytesReceived = counter('causeway_received_bytes_total', 'Payload bytes received from the broker').series()

  const streamsOpen = new Map<string, number>()
  gauge(registers, { name: 'causeway_streams_open', help: 'Open streams', labels: { format: FORMAT_NAMES } }, () =>
    [...streamsOpen].map(([format, count]) => [[format], count] as const),
  )
  limitOf('causeway_streams_open', (from) => from.streamsLimit())
  const eventsWritten = counter('causeway_stream_events_total', 'Events written to streams').series()
  const bytesWritten = counter('causeway_stream_bytes_total', 'Bytes written to streams').series()
  asked(
    'causeway_stream_lag_ratio',
    'Largest part of its log that a stream has still to get; at 1 the next message makes a gap',
    (from) => from.streamLags().reduce((most, lag) => Math.max(most, lag), 0),
    'max',
  )
  asked(
    'causeway_streams_behind',
    'Streams that have more than half of their log still to get',
    (from) => from.streamLags().filter((lag) => lag > 0.5).length,
  )
  const gapReasons = { reason: GAP_REASONS }
  const streamGaps = counter('causeway_stream_gaps_total', 'Gap events, by reason', gapReasons)
  const streamDropped = counter(
    'causeway_stream_dropped_events_total',
    'Events that readers did not get, where the number is known',
    gapReasons,
  )
  const streamClosed = counter('causeway_stream_closed_total', 'Streams that have ended, by reason', {
    reason: CLOSE_REASONS,
  })
  const streamResumes = counter('causeway_stream_resumes_total', 'Streams opened with a last event id, by result', {
    result: ['resumed', ...GAP_REASONS],
  })

  asked('causeway_subscription_filters', 'Topic filters that are subscribed to at the broker', (from) =>
    from.subscriptionFilters(),
  )
  limited(
    'causeway_sessions_open',
    'Durable sessions that are open in this instance',
    ({ sessionsOpen }) => sessionsOpen,
  )
  asked('causeway_session_unacknowledged', 'Messages sent to readers of sessions and not yet acknowledged', (from) =>
    from.sessionUnacknowledged(),
  )
  const redeliveries = counter(
    'causeway_session_redeliveries_total',
    'Messages that the broker sent to a session again',
  ).series()
  const refusals = counter('causeway_limited_total', 'Requests, streams and connections that were refused, by limit', {
    limit: LIMITS,
  })
  const authentications = counter(
    'causeway_authentications_total',
    'Authentications of requests: accepted, or the code of the problem',
    { result: AUTHENTICATION_RESULTS },
  )
  const accepted = authentications.series('accepted')
  limited(
    'causeway_links',
    'Links (sets of connections to the broker): one, or one for each caller with CAUSEWAY_AUTH=broker',
    ({ links }) => links,
  )
  const purposes = { purpose: PURPOSES }
  askedByLabels('causeway_held_bytes', 'Memory held for callers, by purpose', purposes, (from) =>
    Object.entries(from.heldBytes()).map(([purpose, bytes]) => [[purpose], bytes]),
  )
  limitOf('causeway_held_bytes', (from) => from.heldBytesLimit())
  const memoryRefusals = counter(
    'causeway_memory_refusals_total',
    'Refusals because a caller or the process held too much memory, by purpose',
    purposes,
  )
  const questions = counter(
    'causeway_cluster_questions_total',
    'What this replica asked the others about sessions, by result: timeout if one of them did not answer',
    { about: QUESTIONS, result: QUESTION_RESULTS },
  )
  asked('causeway_cluster_replicas', 'Other replicas that this one knows of', (from) => from.replicas(), 'max')
  asked(
    'causeway_redis_reachable',
    'Whether Redis answers (1); 0 while it is away, and without CAUSEWAY_REDIS_URL',
    (from) => (from.redis?.() ? 1 : 0),
    'min',
  )
  const pushDeliveries = counter(
    'causeway_push_deliveries_total',
    'Messages of push targets, by the outcome of a request: delivered, retried, rejected by the endpoint, or given up',
    { push: [], outcome: PUSH_OUTCOMES },
  )
  const pushDurations = new PlainHistogram(
    registers,
    'causeway_push_delivery_seconds',
    'Time from a request to a push endpoint to the end of its answer',
    HTTP_BUCKETS_S,
    { push: [] },
  )
  const byPush = { push: [] }
  askedByLabels(
    'causeway_push_waiting',
    'Messages that this instance holds for a push endpoint, and that are not delivered yet',
    byPush,
    (from) => from.pushes().map(({ name, waiting }) => [[name], waiting]),
  )
  askedByLabels(
    'causeway_push_active',
    '1 if this instance delivers to a push endpoint, 0 if it does not, as another instance does',
    byPush,
    (from) => from.pushes().map(({ name, isActive }) => [[name], Number(isActive)]),
  )
  const roles = { role: CONNECTION_ROLES }
  const reconnects = counter('causeway_mqtt_reconnects_total', 'Reconnects to the broker', roles)
  askedByLabels(
    'causeway_mqtt_connections',
    'Connections to the broker, by role and state; a role without any is not used by this bridge',
    { ...roles, state: CONNECTION_STATES },
    (from) => from.connections().map(({ role, state }) => [[role, state], 1]),
  )
  askedByLabels(
    'causeway_mqtt_protocol_connections',
    'Connections to the broker that are connected, by the MQTT version that was negotiated',
    { protocol: ['5', '3.1.1'] },
    (from) => from.negotiated().map(({ protocol }) => [[protocol], 1]),
  )
  asked(
    'causeway_mqtt_receive_maximum',
    'Lowest Receive Maximum that the broker gave a connection that publishes; 0 where it gave none, as over 3.1.1',
    (from) => lowest(from.negotiated().flatMap((one) => (one.role === 'publish' ? (one.receiveMaximum ?? []) : []))),
    'min',
  )
  limited('causeway_http_connections', 'Open connections of clients', ({ httpConnections }) => httpConnections)
  const httpRequests = counter(
    'causeway_http_requests_total',
    'Requests that were answered; streams, when they begin',
    {
      method: [],
      route: [],
      status_code: [],
    },
  )
  const httpDuration = new PlainHistogram(
    registers,
    'causeway_http_request_duration_seconds',
    'Time from a request to its answer, or to the headers of a stream',
    HTTP_BUCKETS_S,
    { method: [], route: [], status_code: [] },
  )
  /** By route. A list for each, as a route has few methods and statuses: faster than building a key for each answer. */
  const answers = new Map<string, Answers[]>()

  function answersOf(method: string, route: string, status: number): Answers {
    let ofRoute = answers.get(route)
    if (ofRoute === undefined) answers.set(route, (ofRoute = []))
    let found = ofRoute.find((one) => one.status === status && one.method === method)
    if (found === undefined) {
      const count = httpRequests.begin(method, route, String(status))
      ofRoute.push((found = { method, status, count, durations: undefined }))
    }
    return found
  }

  return {
    text,
    openMetrics,
    setGauges(source: Gauges) {
      gauges = source
    },
    /** @param traceId of the sampled trace that the message belongs to, if there is one */
    published(qos: 0 | 1 | 2, outcome: PublishOutcome, bytes: number, seconds: number, traceId?: string) {
      publishSeries[qos]!.get(outcome)!.value += 1
      if (outcome === 'acknowledged' || outcome === 'no_subscribers') {
        ackSeries[qos]?.observe(seconds, traceId)
        acknowledgedAtMs = performance.now()
      } else if (outcome !== 'sent') return
      publishBytes.value += bytes
    },
    rejected(reason: ProblemCode) {
      publishRejections.series(reason).value += 1
    },
    idempotencyKey(result: IdempotencyResult) {
      idempotency.series(result).value += 1
    },
    replied(result: ReplyResult) {
      replies.series(result).value += 1
    },
    received(qos: 0 | 1 | 2, bytes: number) {
      received[qos].value += 1
      bytesReceived.value += bytes
    },
    unmatched() {
      unmatched.value += 1
    },
    redelivered() {
      redeliveries.value += 1
    },
    refused(limit: Limit) {
      refusals.series(limit).value += 1
    },
    authenticated(result: string) {
      const count = result === 'accepted' ? accepted : authentications.series(result)
      count.value += 1
    },
    memoryRefused(purpose: Purpose) {
      memoryRefusals.series(purpose).value += 1
    },
    asked(about: Question['about'], result: QuestionResult) {
      questions.series(about, result).value += 1
    },
    /**
     * A push target was started: its series begin. Its name comes from the operator.
     * @returns counts what became of messages; `seconds` is the time of the request, undefined where there was none
     */
    pushStarted(push: string): (outcome: PushOutcome, messages: number, seconds: number | undefined) => void {
      const counts = Object.fromEntries(PUSH_OUTCOMES.map((outcome) => [outcome, pushDeliveries.begin(push, outcome)]))
      const durations = pushDurations.begin(push)
      return (outcome, messages, seconds) => {
        counts[outcome]!.value += messages
        if (seconds !== undefined) durations.observe(seconds)
      }
    },
    reconnected(role: ConnectionRole) {
      reconnects.series(role).value += 1
    },
    /** Begins the series of a route, with the statuses that it is documented to answer with. */
    willAnswer(method: string, route: string, statuses: readonly number[]) {
      for (const status of statuses) {
        const answer = answersOf(method, route, status)
        // The buckets of all statuses would make most of a scrape. `causeway_http_requests_total` begins with all.
        if (status < 300) answer.durations ??= httpDuration.begin(method, route, String(status))
      }
    },
    answered({ method, route, status, seconds, traceId }: Answer) {
      const answer = answersOf(method, route, status)
      answer.count.value += 1
      answer.durations ??= httpDuration.begin(method, route, String(status))
      answer.durations.observe(seconds, traceId)
    },
    streams: {
      wrote(events: number, bytes: number) {
        eventsWritten.value += events
        bytesWritten.value += bytes
      },
      gap(reason: GapReason, dropped: number) {
        streamGaps.series(reason).value += 1
        if (dropped > 0) streamDropped.series(reason).value += dropped
      },
      opened(format: string) {
        streamsOpen.set(format, (streamsOpen.get(format) ?? 0) + 1)
      },
      closed(format: string, reason: CloseReason) {
        streamsOpen.set(format, streamsOpen.get(format)! - 1)
        streamClosed.series(reason).value += 1
      },
      resumed(result: 'resumed' | GapReason) {
        streamResumes.series(result).value += 1
      },
    },
  }
}

interface Answer {
  method: string
  /** The pattern of the route. */
  route: string
  status: number
  seconds: number
  /** As of `published`. */
  traceId?: string | undefined
}

/** What is counted of the answers of one route with one method and status. */
interface Answers {
  readonly method: string
  readonly status: number
  readonly count: CounterSeries
  /** Begins with the first answer, where no answer of this kind is the rule. */
  durations: HistogramSeries | undefined
}

function lowest(numbers: readonly number[]): number {
  return numbers.length === 0 ? 0 : Math.min(...numbers)
}
