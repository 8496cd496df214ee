import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

const ACK_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const HTTP_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Values that other parts of the bridge know. They are read on each scrape. */
export interface Gauges {
  links: () => number
  publishInFlight: () => number
  requestsWaiting: () => number
  subscriptionFilters: () => number
  sessionsOpen: () => number
  sessionUnacknowledged: () => number
  /** Bytes held for callers, by purpose. */
  heldBytes: () => Readonly<Record<string, number>>
  connections: () => { role: string; state: string }[]
}

/** The count for one set of label values. */
class CounterSeries {
  readonly labels: Readonly<Record<string, string>>
  value = 0

  constructor(labels: Record<string, string>) {
    this.labels = labels
  }
}

/**
 * A counter that keeps plain numbers and gives them to prom-client on each scrape. A labelled `inc` of prom-client
 * costs twenty times as much as adding to a number.
 */
class PlainCounter {
  readonly #labelNames: string[]
  readonly #series = new Map<string, CounterSeries>()

  constructor(registers: Registry[], name: string, help: string, labelNames: string[]) {
    this.#labelNames = labelNames
    const series = this.#series
    // One counter for each registry: when prom-client writes OpenMetrics, it removes `_total` from the counter's name
    // for ever, and the text format would lack it.
    for (const register of registers) {
      new Counter({
        name,
        help,
        labelNames,
        registers: [register],
        collect() {
          this.reset()
          for (const { labels, value } of series.values()) this.inc(labels, value)
        },
      })
    }
  }

  /** The series with these label values. Code that counts every message should call this once and keep the result. */
  series(...values: string[]): CounterSeries {
    const key = values.join()
    let found = this.#series.get(key)
    if (found === undefined) {
      const labels = Object.fromEntries(this.#labelNames.map((name, index) => [name, values[index]!]))
      this.#series.set(key, (found = new CounterSeries(labels)))
    }
    return found
  }
}

/** The observations with one set of label values. */
class HistogramSeries {
  readonly labels: Readonly<Record<string, string | number>>
  /** Number of observations in each bucket, not cumulated. The last bucket has no upper bound. */
  readonly counts: number[]
  sum = 0
  readonly #bounds: readonly number[]

  constructor(labels: Readonly<Record<string, string | number>>, bounds: readonly number[]) {
    this.labels = labels
    this.#bounds = bounds
    this.counts = [...bounds, Infinity].map(() => 0)
  }

  observe(seconds: number): void {
    let bucket = 0
    while (seconds > this.#bounds[bucket]!) bucket += 1
    this.counts[bucket]! += 1
    this.sum += seconds
  }
}

/**
 * A histogram of seconds that keeps plain numbers, for the same reason. prom-client's Histogram cannot be filled with
 * counts, so this class implements what a registry calls.
 */
class PlainHistogram {
  readonly #bounds: readonly number[]
  readonly #series: HistogramSeries[] = []

  constructor(registers: Registry[], name: string, help: string, bounds: readonly number[], labelNames: string[]) {
    this.#bounds = bounds
    const get = async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: this.#series.flatMap((series) => this.#valuesOf(name, series)),
    })
    for (const register of registers) register.registerMetric({ name, labelNames, get } as unknown as Histogram)
  }

  /** Adds a series with these label values. To be called once for each set of values; the caller keeps the result. */
  addSeries(labels: Readonly<Record<string, string | number>>): HistogramSeries {
    const series = new HistogramSeries(labels, this.#bounds)
    this.#series.push(series)
    return series
  }

  #valuesOf(name: string, { labels, counts, sum }: HistogramSeries): object[] {
    let total = 0
    const buckets = counts.map((count, bucket) => ({
      labels: { le: this.#bounds[bucket] ?? '+Inf', ...labels },
      value: (total += count),
      metricName: `${name}_bucket`,
    }))
    return [
      ...buckets,
      { labels, value: sum, metricName: `${name}_sum` },
      { labels, value: total, metricName: `${name}_count` },
    ]
  }
}

export type Metrics = ReturnType<typeof createMetrics>

/** All metrics of one bridge. `text` and `openMetrics` are registries with the same metrics, one for each format. */
export function createMetrics(version: string) {
  const text = new Registry()
  const openMetrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
  openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const registers = [text, openMetrics] as Registry[]
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new PlainCounter(registers, name, help, labelNames)
  let gauges: Gauges | undefined

  for (const register of registers) collectDefaultMetrics({ register })
  new Gauge({
    name: 'causeway_build_info',
    help: 'Always 1; the labels have the versions',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version, node: process.version }, 1)

  const publishMessages = counter('causeway_publish_messages_total', 'Publishes, by outcome', 'qos', 'outcome')
  const publishSeries = [0, 1, 2].map(() => new Map<string, CounterSeries>())
  const publishBytes = counter(
    'causeway_publish_bytes_total',
    'Payload bytes that the broker acknowledged, or that were sent with QoS 0',
  ).series()
  const publishRejections = counter(
    'causeway_publish_rejections_total',
    'Publishes that the broker refused, or that were not sent as it would refuse them, by problem code',
    'reason',
  )
  const publishAck = new PlainHistogram(
    registers,
    'causeway_publish_ack_seconds',
    'Time from accepting a publish to its acknowledgement',
    ACK_BUCKETS_S,
    ['qos'],
  )
  const ackSeries = [undefined, publishAck.addSeries({ qos: 1 }), publishAck.addSeries({ qos: 2 })]
  new Gauge({
    name: 'causeway_publish_in_flight',
    help: 'Publishes that are accepted and not yet answered',
    registers,
    collect() {
      this.set(gauges?.publishInFlight() ?? 0)
    },
  })

  const idempotency = counter(
    'causeway_idempotency_keys_total',
    'Requests with an Idempotency-Key, by the state of the key',
    'result',
  )
  const replies = counter(
    'causeway_request_replies_total',
    'Replies to POST /request: delivered, too late, or for no request of this bridge',
    'result',
  )
  new Gauge({
    name: 'causeway_requests_waiting',
    help: 'POST /request calls that wait for their reply',
    registers,
    collect() {
      this.set(gauges?.requestsWaiting() ?? 0)
    },
  })

  const receivedMessages = counter('causeway_received_messages_total', 'Messages received from the broker', 'qos')
  const received = [receivedMessages.series('0'), receivedMessages.series('1'), receivedMessages.series('2')] as const
  const unmatched = counter(
    'causeway_unmatched_messages_total',
    'Messages received that match no filter and do not say for which one they were sent, so nobody gets them',
  ).series()
  const bytesReceived = counter('causeway_received_bytes_total', 'Payload bytes received from the broker').series()

  const streamsOpen = new Gauge({
    name: 'causeway_streams_open',
    help: 'Open streams',
    labelNames: ['format'],
    registers,
  })
  const eventsWritten = counter('causeway_stream_events_total', 'Events written to streams').series()
  const bytesWritten = counter('causeway_stream_bytes_total', 'Bytes written to streams').series()
  const streamGaps = counter('causeway_stream_gaps_total', 'Gap events, by reason', 'reason')
  const streamDropped = counter(
    'causeway_stream_dropped_events_total',
    'Events that readers did not get, where the number is known',
    'reason',
  )
  const streamClosed = counter('causeway_stream_closed_total', 'Streams that have ended, by reason', 'reason')
  const streamResumes = counter(
    'causeway_stream_resumes_total',
    'Streams opened with a last event id, by result',
    'result',
  )

  new Gauge({
    name: 'causeway_subscription_filters',
    help: 'Topic filters that are subscribed to at the broker',
    registers,
    collect() {
      this.set(gauges?.subscriptionFilters() ?? 0)
    },
  })
  new Gauge({
    name: 'causeway_sessions_open',
    help: 'Durable sessions that are open in this instance',
    registers,
    collect() {
      this.set(gauges?.sessionsOpen() ?? 0)
    },
  })
  new Gauge({
    name: 'causeway_session_unacknowledged',
    help: 'Messages sent to readers of sessions and not yet acknowledged',
    registers,
    collect() {
      this.set(gauges?.sessionUnacknowledged() ?? 0)
    },
  })
  const redeliveries = counter(
    'causeway_session_redeliveries_total',
    'Messages that the broker sent to a session again',
  )
  const refusals = counter(
    'causeway_limited_total',
    'Requests, streams and connections that were refused, by limit',
    'limit',
  )
  const authentications = counter(
    'causeway_authentications_total',
    'Authentications of requests: accepted, or the code of the problem',
    'result',
  )
  const accepted = authentications.series('accepted')
  new Gauge({
    name: 'causeway_links',
    help: 'Links (sets of connections to the broker): one, or one for each caller with CAUSEWAY_AUTH=broker',
    registers,
    collect() {
      this.set(gauges?.links() ?? 0)
    },
  })
  new Gauge({
    name: 'causeway_held_bytes',
    help: 'Memory held for callers, by purpose; CAUSEWAY_MEMORY_BYTES limits the sum',
    labelNames: ['purpose'],
    registers,
    collect() {
      for (const [purpose, bytes] of Object.entries(gauges?.heldBytes() ?? {})) this.set({ purpose }, bytes)
    },
  })
  const memoryRefusals = counter(
    'causeway_memory_refusals_total',
    'Refusals because a caller or the process held too much memory, by purpose',
    'purpose',
  )
  const reconnects = counter('causeway_mqtt_reconnects_total', 'Reconnects to the broker', 'role')
  new Gauge({
    name: 'causeway_mqtt_connections',
    help: 'Connections to the broker, by role and state',
    labelNames: ['role', 'state'],
    registers,
    collect() {
      this.reset()
      for (const labels of gauges?.connections() ?? []) this.inc(labels)
    },
  })
  const httpDuration = new PlainHistogram(
    registers,
    'causeway_http_request_duration_seconds',
    'Time from a request to its answer, or to the headers of a stream',
    HTTP_BUCKETS_S,
    ['method', 'route', 'status_code'],
  )
  /** By route. A list for each, as a route has few methods and statuses: faster than building a key for each answer. */
  const answers = new Map<string, { method: string; status: number; series: HistogramSeries }[]>()

  function answerSeries(method: string, route: string, status: number): HistogramSeries {
    let ofRoute = answers.get(route)
    if (ofRoute === undefined) answers.set(route, (ofRoute = []))
    let found = ofRoute.find((one) => one.status === status && one.method === method)
    if (found === undefined) {
      ofRoute.push((found = { method, status, series: httpDuration.addSeries({ method, route, status_code: status }) }))
    }
    return found.series
  }

  return {
    text,
    openMetrics,
    setGauges(source: Gauges) {
      gauges = source
    },
    published(qos: 0 | 1 | 2, outcome: string, bytes: number, seconds: number) {
      let count = publishSeries[qos]!.get(outcome)
      if (count === undefined) publishSeries[qos]!.set(outcome, (count = publishMessages.series(String(qos), outcome)))
      count.value += 1
      if (outcome === 'acknowledged' || outcome === 'no_subscribers') ackSeries[qos]?.observe(seconds)
      else if (outcome !== 'sent') return
      publishBytes.value += bytes
    },
    rejected(reason: string) {
      publishRejections.series(reason).value += 1
    },
    idempotencyKey(result: string) {
      idempotency.series(result).value += 1
    },
    replied(result: string) {
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
      redeliveries.series().value += 1
    },
    refused(limit: string) {
      refusals.series(limit).value += 1
    },
    authenticated(result: string) {
      const count = result === 'accepted' ? accepted : authentications.series(result)
      count.value += 1
    },
    memoryRefused(purpose: string) {
      memoryRefusals.series(purpose).value += 1
    },
    reconnected(role: string) {
      reconnects.series(role).value += 1
    },
    answered(method: string, route: string, status: number, seconds: number) {
      answerSeries(method, route, status).observe(seconds)
    },
    streams: {
      wrote(events: number, bytes: number) {
        eventsWritten.value += events
        bytesWritten.value += bytes
      },
      gap(reason: string, dropped: number) {
        streamGaps.series(reason).value += 1
        if (dropped > 0) streamDropped.series(reason).value += dropped
      },
      opened(format: string) {
        streamsOpen.inc({ format })
      },
      closed(format: string, reason: string) {
        streamsOpen.dec({ format })
        streamClosed.series(reason).value += 1
      },
      resumed(result: string) {
        streamResumes.series(result).value += 1
      },
    },
  }
}
