import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

const ACK_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const HTTP_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** What only others know and is asked for on scrape. */
export interface Gauges {
  links: () => number
  publishInFlight: () => number
  requestsWaiting: () => number
  subscriptionFilters: () => number
  sessionsOpen: () => number
  sessionUnacknowledged: () => number
  connections: () => { role: string; state: string }[]
}

/** What is counted of one set of label values. */
class Count {
  readonly labels: Readonly<Record<string, string>>
  value = 0

  constructor(labels: Record<string, string>) {
    this.labels = labels
  }
}

/** A counter kept as plain numbers and handed over on scrape: a labelled `inc` costs twenty times as much. */
class Tally {
  readonly #labelNames: string[]
  readonly #counts = new Map<string, Count>()

  constructor(registers: Registry[], name: string, help: string, labelNames: string[]) {
    this.#labelNames = labelNames
    const counts = this.#counts
    // One counter for each registry: to write OpenMetrics, prom-client cuts `_total` off the counter's own name for good.
    for (const register of registers) {
      new Counter({
        name,
        help,
        labelNames,
        registers: [register],
        collect() {
          this.reset()
          for (const { labels, value } of counts.values()) this.inc(labels, value)
        },
      })
    }
  }

  /** The count of these label values, which are few: whoever counts each message keeps it. */
  of(...values: string[]): Count {
    const key = values.join()
    let count = this.#counts.get(key)
    if (count === undefined) {
      this.#counts.set(
        key,
        (count = new Count(Object.fromEntries(this.#labelNames.map((name, index) => [name, values[index]!])))),
      )
    }
    return count
  }
}

/** What was observed with one set of label values. */
class Observed {
  readonly labels: Readonly<Record<string, string | number>>
  /** Of each bucket alone, the one without a bound last. */
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
 * A histogram of seconds kept as plain numbers, for the same reason. prom-client's own takes no counts over from anybody, so
 * this is what a registry asks of a metric.
 */
class Timing {
  readonly #bounds: readonly number[]
  readonly #observed: Observed[] = []

  constructor(registers: Registry[], name: string, help: string, bounds: readonly number[], labelNames: string[]) {
    this.#bounds = bounds
    const get = async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: this.#observed.flatMap((one) => this.#valuesOf(name, one)),
    })
    for (const register of registers) register.registerMetric({ name, labelNames, get } as unknown as Histogram)
  }

  /** Those of these label values, which are few. To be kept by whoever observes. */
  of(labels: Readonly<Record<string, string | number>>): Observed {
    const observed = new Observed(labels, this.#bounds)
    this.#observed.push(observed)
    return observed
  }

  #valuesOf(name: string, { labels, counts, sum }: Observed): object[] {
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

/** All metrics of one bridge. `text` and `openMetrics` are the same ones in the two exposition formats. */
export function createMetrics(version: string) {
  const text = new Registry()
  const openMetrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
  openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const registers = [text, openMetrics] as Registry[]
  const tally = (name: string, help: string, ...labelNames: string[]) => new Tally(registers, name, help, labelNames)
  let gauges: Gauges | undefined

  for (const register of registers) collectDefaultMetrics({ register })
  new Gauge({
    name: 'causeway_build_info',
    help: 'Always 1; the version is in the label',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version, node: process.version }, 1)

  const publishMessages = tally(
    'causeway_publish_messages_total',
    'Messages to publish, by how they ended',
    'qos',
    'outcome',
  )
  const publishesOf = [0, 1, 2].map(() => new Map<string, Count>())
  const publishedBytes = tally(
    'causeway_publish_bytes_total',
    'Payload bytes the broker acknowledged, or QoS 0 sent',
  ).of()
  const publishRejections = tally(
    'causeway_publish_rejections_total',
    'Messages refused by the broker, or because it would',
    'reason',
  )
  const publishAck = new Timing(
    registers,
    'causeway_publish_ack_seconds',
    'From accepting a message to its acknowledgement',
    ACK_BUCKETS_S,
    ['qos'],
  )
  const ackOfQos = [undefined, publishAck.of({ qos: 1 }), publishAck.of({ qos: 2 })]
  new Gauge({
    name: 'causeway_publish_in_flight',
    help: 'Publishes accepted and not yet answered',
    registers,
    collect() {
      this.set(gauges?.publishInFlight() ?? 0)
    },
  })

  const idempotency = tally(
    'causeway_idempotency_keys_total',
    'Requests with an Idempotency-Key, by what it was',
    'result',
  )
  const replies = tally(
    'causeway_request_replies_total',
    'Replies to requests: delivered, late, or answering nothing of this bridge',
    'result',
  )
  new Gauge({
    name: 'causeway_requests_waiting',
    help: 'Requests waiting for their reply',
    registers,
    collect() {
      this.set(gauges?.requestsWaiting() ?? 0)
    },
  })

  const receivedMessages = tally('causeway_received_messages_total', 'Messages from the broker', 'qos')
  const received = [receivedMessages.of('0'), receivedMessages.of('1'), receivedMessages.of('2')] as const
  const bytesReceived = tally('causeway_received_bytes_total', 'Payload bytes from the broker').of()

  const streamsOpen = new Gauge({
    name: 'causeway_streams_open',
    help: 'Streams open now',
    labelNames: ['format'],
    registers,
  })
  const eventsWritten = tally('causeway_stream_events_total', 'Events written to streams').of()
  const bytesWritten = tally('causeway_stream_bytes_total', 'Bytes written to streams').of()
  const streamGaps = tally('causeway_stream_gaps_total', 'Gap events, by reason', 'reason')
  const streamDropped = tally(
    'causeway_stream_dropped_events_total',
    'Events readers did not get, where their number is known',
    'reason',
  )
  const streamClosed = tally('causeway_stream_closed_total', 'Streams that ended, by reason', 'reason')
  const streamResumes = tally(
    'causeway_stream_resumes_total',
    'Streams opened with a last event id, by result',
    'result',
  )

  new Gauge({
    name: 'causeway_subscription_filters',
    help: 'Topic filters subscribed to at the broker',
    registers,
    collect() {
      this.set(gauges?.subscriptionFilters() ?? 0)
    },
  })
  new Gauge({
    name: 'causeway_sessions_open',
    help: 'Durable sessions open here',
    registers,
    collect() {
      this.set(gauges?.sessionsOpen() ?? 0)
    },
  })
  new Gauge({
    name: 'causeway_session_unacknowledged',
    help: 'Messages that readers of sessions may have and have not acknowledged',
    registers,
    collect() {
      this.set(gauges?.sessionUnacknowledged() ?? 0)
    },
  })
  const redeliveries = tally('causeway_session_redeliveries_total', 'Messages the broker sent to a session again')
  const refusals = tally(
    'causeway_limited_total',
    'Requests, streams and connections refused over a limit on callers',
    'limit',
  )
  const authentications = tally(
    'causeway_authentications_total',
    'Requests that needed an identity, by what became of them',
    'result',
  )
  const accepted = authentications.of('accepted')
  new Gauge({
    name: 'causeway_links',
    help: 'Sets of connections to the broker: one, or one for each caller with CAUSEWAY_AUTH=broker',
    registers,
    collect() {
      this.set(gauges?.links() ?? 0)
    },
  })
  const reconnects = tally('causeway_mqtt_reconnects_total', 'Connections to the broker made again', 'role')
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
  const httpDuration = new Timing(
    registers,
    'causeway_http_request_duration_seconds',
    'From a request to its answer; to its headers, for streams',
    HTTP_BUCKETS_S,
    ['method', 'route', 'status_code'],
  )
  const answers = new Map<string, { method: string; status: number; observed: Observed }[]>()

  function answersOf(method: string, route: string, status: number): Observed {
    let ofRoute = answers.get(route)
    if (ofRoute === undefined) answers.set(route, (ofRoute = []))
    let found = ofRoute.find((one) => one.status === status && one.method === method)
    if (found === undefined) {
      ofRoute.push((found = { method, status, observed: httpDuration.of({ method, route, status_code: status }) }))
    }
    return found.observed
  }

  return {
    text,
    openMetrics,
    setGauges(source: Gauges) {
      gauges = source
    },
    published(qos: 0 | 1 | 2, outcome: string, bytes: number, seconds: number) {
      let count = publishesOf[qos]!.get(outcome)
      if (count === undefined) publishesOf[qos]!.set(outcome, (count = publishMessages.of(String(qos), outcome)))
      count.value += 1
      if (outcome === 'acknowledged' || outcome === 'no_subscribers') ackOfQos[qos]?.observe(seconds)
      else if (outcome !== 'sent') return
      publishedBytes.value += bytes
    },
    rejected(reason: string) {
      publishRejections.of(reason).value += 1
    },
    idempotencyKey(result: string) {
      idempotency.of(result).value += 1
    },
    replied(result: string) {
      replies.of(result).value += 1
    },
    received(qos: 0 | 1 | 2, bytes: number) {
      received[qos].value += 1
      bytesReceived.value += bytes
    },
    redelivered() {
      redeliveries.of().value += 1
    },
    refused(limit: string) {
      refusals.of(limit).value += 1
    },
    authenticated(result: string) {
      const count = result === 'accepted' ? accepted : authentications.of(result)
      count.value += 1
    },
    reconnected(role: string) {
      reconnects.of(role).value += 1
    },
    answered(method: string, route: string, status: number, seconds: number) {
      answersOf(method, route, status).observe(seconds)
    },
    streams: {
      wrote(events: number, bytes: number) {
        eventsWritten.value += events
        bytesWritten.value += bytes
      },
      gap(reason: string, dropped: number) {
        streamGaps.of(reason).value += 1
        if (dropped > 0) streamDropped.of(reason).value += dropped
      },
      opened(format: string) {
        streamsOpen.inc({ format })
      },
      closed(format: string, reason: string) {
        streamsOpen.dec({ format })
        streamClosed.of(reason).value += 1
      },
      resumed(result: string) {
        streamResumes.of(result).value += 1
      },
    },
  }
}
