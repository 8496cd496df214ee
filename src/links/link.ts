import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { BaseLogger } from 'pino'
import type { Config } from '../config/config.ts'
import { CausewayError } from '../errors.ts'
import type { MemoryAccount, MemoryShare } from '../memory/account.ts'
import type { Metrics } from '../metrics.ts'
import type { Broker } from '../mqtt/connection/broker.ts'
import type { ConnectionOptions, ConnectionState } from '../mqtt/connection.ts'
import { type Message, sizeOf } from '../mqtt/message.ts'
import { Markers } from '../mqtt/markers.ts'
import { Publisher } from '../mqtt/publish/publisher.ts'
import { Requester } from '../mqtt/requester.ts'
import { Retained, type RetainedMessages } from '../mqtt/retained.ts'
import { sessionClientId } from '../mqtt/session/session-id.ts'
import { isBelow } from '../mqtt/topic.ts'
import { Session } from '../mqtt/session/session.ts'
import { Subscriber } from '../mqtt/subscribe/subscriber.ts'
import type { GapReason, StreamMessage } from '../stream/events.ts'
import type { OpenedStream } from '../stream/opened-stream.ts'
import type { SessionRequest } from '../stream/sessions/session-stream.ts'
import { Sessions, type SessionsOptions } from '../stream/sessions/sessions.ts'
import { JoinFailed } from '../stream/shared/join.ts'
import { SharedStreams, type StreamRequest } from '../stream/shared/shared-streams.ts'
import type { SubscribedChannel } from '../stream/shared/subscribed-channel.ts'
import { sampledTraceId } from '../trace-context.ts'
import type { Tracing } from '../tracing/tracing.ts'
import { BrokerWait } from './broker-wait.ts'
import { Lazy } from '../lazy.ts'
import type { LimitedLog } from './limited-log.ts'
import { reportSession, reportStates, type StateLog } from './state-log.ts'

export interface LinkOptions {
  config: Config
  broker: Broker
  /** Prefix of the client ids. No other client of the broker may use it. */
  clientId: string
  /**
   * A caller's credentials, in place of the bridge's own. Such a link has one publishing connection, and makes the
   * others only when they are needed.
   */
  login?: { username: string; password: string }
  logger: BaseLogger
  /** Gets the states of the connections, without those of sessions. */
  log: StateLog
  /** Gets what went wrong: gaps, publishes that were not answered, sessions that were lost. */
  limitedLog: LimitedLog
  memory: MemoryAccount
  metrics: Metrics
  /** What other replicas know about a reader of a session; undefined where they cannot be asked. */
  viewsElsewhere: SessionsOptions<Message>['viewsElsewhere']
  tracing?: Tracing | undefined
}

type Role = 'publish' | 'subscribe' | 'retained' | 'request'

/** Without a connection of another role, most requests can still be served. */
const NEEDED: readonly Role[] = ['publish', 'subscribe', 'retained']
/** Answers to publishes that somebody should know of who reads the log. */
const LOGGED_STATUSES = [429, 502, 504]

/** Random bytes of an epoch, which names the events of one link in one process. */
const EPOCH_BYTES = 6

/**
 * How long the first session waits to know how the broker sends messages again; on a slow link it begins without that.
 */
const REDELIVERY_WAIT_MS = 250

/** How often it is logged at most that a message matches no filter. */
const UNMATCHED_LOG_MS = 60_000

/** One identity's connections to the broker, and the streams that they deliver to. */
export class Link {
  readonly publisher: Publisher
  readonly streams: SharedStreams<Message>
  readonly sessions: Sessions<Message>
  readonly #subscriber: Lazy<Subscriber<SubscribedChannel<Message>>>
  readonly #retained: Lazy<Retained>
  readonly #requester: Lazy<Requester>
  readonly #wait: BrokerWait

  constructor(options: LinkOptions) {
    const { config, broker, clientId, login, logger, log, limitedLog, memory, metrics, tracing, viewsElsewhere } =
      options
    this.#wait = new BrokerWait(config.subscribeWaitMs, () => this.#subscriber.existing?.states[0] === 'connected')
    const common = { broker, login }
    const timeoutMs = config.publishTimeoutMs
    const sharedOver311 = config.mqttSharedSubscriptions === 'true'
    const connection = (role: Role, name: string): Omit<ConnectionOptions, 'handlers'> => {
      const report = reportStates(name, log, () => metrics.reconnected(role))
      return {
        ...common,
        role,
        clientId: `${clientId}-${name}`,
        onState: (state, cause) => {
          report(state, cause)
          if (state === 'connected') this.#wait.connected()
        },
      }
    }
    const streamOptions = {
      lingerMs: config.streamLingerMs,
      heartbeatMs: config.streamHeartbeatMs,
      stallMs: config.streamStallMs,
      counters: {
        ...metrics.streams,
        received(message: StreamMessage) {
          metrics.received(message.qos, message.payload.length)
          tracing?.received(message)
        },
        redelivered: metrics.redelivered,
        gap(reason: GapReason, dropped: number) {
          metrics.streams.gap(reason, dropped)
          limitedLog.warn(`gap ${reason}`, { reason, dropped }, 'messages may be missing in a stream')
        },
      },
    }
    const sessionClientIds = {
      prefix: config.sessionClientId ?? `${config.mqttClientId ?? 'causeway'}-session-`,
      secret: config.sessionSecret,
    }
    const logLimits = { bytes: config.streamLogBytes, messages: config.streamLogMessages }

    const markers = new Markers(config.markerTopic!)
    // The embedded broker keeps what memory allows, and ends a session instead of dropping messages of it.
    const brokerQueueMax = config.mqttUrl === 'embedded:' ? 0 : config.brokerQueueMax
    const ignores = (topic: string): boolean => isBelow(topic, config.clusterTopic!)

    this.publisher = new Publisher({
      connections: login === undefined ? config.publishConnections : 1,
      maxInFlight: config.publishMaxInFlight,
      maxInFlightBytes: config.publishMaxInFlightBytes,
      waitMaxMs: config.publishWaitMs,
      timeoutMs,
      connection: (index) => connection('publish', `publish-${index}`),
      observe({ qos, payload, properties, ambient }, outcome, seconds, error) {
        const traceparent = (properties?.userProperties ?? ambient?.userProperties)?.['traceparent']
        metrics.published(qos, outcome, payload.length, seconds, sampledTraceId(traceparent))
        if (outcome === 'rejected' && error !== undefined) metrics.rejected(error.kind.code)
        if (error === undefined || !(LOGGED_STATUSES.includes(error.kind.status) || outcome === 'overloaded')) return
        const { kind, message, details } = error
        limitedLog.warn(
          `publish ${kind.code}`,
          { problem: kind.code, status: kind.status, outcome: details.outcome, reason: message },
          'a publish failed',
        )
      },
    })
    this.#requester = new Lazy(
      () =>
        new Requester({
          connection: connection('request', 'request'),
          replyTopic: `${config.replyTopic}/${randomBytes(12).toString('hex')}`,
          requestsMax: config.requestsMax,
          timeoutMs,
          publish: (message, share) => this.publisher.publish(message, share),
          observe: metrics.replied,
        }),
    )
    this.#retained = new Lazy(
      () =>
        new Retained({
          connection: connection('retained', 'retained'),
          timeoutMs,
          markers,
          limits: { messages: config.retainedMax, bytes: config.retainedMaxBytes },
        }),
    )
    this.streams = new SharedStreams<Message>({
      ...streamOptions,
      subscriber: () => this.#subscriber.get(),
      retained: () => this.#retained.get(),
      epoch: randomBytes(EPOCH_BYTES).toString('hex'),
      limits: logLimits,
      memory,
      sizeOf,
      onRefused: ({ kind, message }) =>
        limitedLog.warn('not granted', { problem: kind.code }, `a subscription was not granted again: ${message}`),
      onFault: (error) => limitedLog.error('stream fault', { err: error }, 'an unexpected error ended a stream'),
    })
    this.#subscriber = new Lazy(
      () =>
        new Subscriber({
          connection: (index) => connection('subscribe', `subscribe-${index}`),
          connectionsMax: config.subscribeConnectionsMax,
          timeoutMs,
          sharedOver311,
          brokerQueueMax,
          mayShareClientId: config.mqttClientId !== undefined,
          markers,
          ignores,
          onUnmatched: warnOfUnmatched(logger, metrics),
          events: this.streams,
        }),
    )
    this.sessions = new Sessions<Message>({
      ...streamOptions,
      epoch: randomBytes(EPOCH_BYTES).toString('hex'),
      log: logLimits,
      window: { messages: config.sessionMaxUnacked, bytes: config.streamLogBytes },
      viewsElsewhere,
      sizeOf,
      connect: ({ id, filters, retained }, events) =>
        new Session({
          connection: {
            ...common,
            role: 'session',
            clientId: sessionClientId(id, sessionClientIds),
            onState: reportSession(sessionClientId(id, sessionClientIds), limitedLog, () =>
              metrics.reconnected('session'),
            ),
          },
          durable: {
            expiryS: config.sessionExpiryS,
            isBrokerThere: () => this.#subscriber.get().answers(),
          },
          filters,
          retained,
          timeoutMs,
          sharedOver311,
          brokerQueueMax,
          learningRedelivery: () => this.#subscriber.get().learningRedelivery,
          markerTopic: () =>
            markers.work === true ? markers.sessionTopic(sessionClientId(id, sessionClientIds)) : undefined,
          ignores: (topic) => markers.isMarkerTopic(topic) || ignores(topic),
          events,
        }),
    })
    if (login !== undefined) return
    for (const part of [this.#subscriber, this.#retained, this.#requester]) part.get()
    // So that it is known before anybody publishes. With callers' own connections the first stream of any finds it out.
    void this.#retained
      .get()
      .learnt()
      .then(() => this.#subscriber.get().learnOrder())
      .catch(() => {})
  }

  /**
   * Opens a stream. While the broker is away, waits for it.
   * @param signal ends the wait when aborted
   */
  openStream(request: StreamRequest<Message>, share: MemoryShare, signal: AbortSignal): Promise<OpenedStream> {
    return this.#wait.run(
      () =>
        this.streams.open(request, share).catch((error: unknown) => {
          throw error instanceof JoinFailed ? connectionLost(error) : error
        }),
      signal,
    )
  }

  /** As `openStream`, for a durable session. Undefined where another reader has it. */
  openSession(
    request: SessionRequest<Message>,
    lastEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<OpenedStream | undefined> {
    return this.#wait.run(async () => {
      const subscriber = this.#subscriber.get()
      await subscriber.checkTopics(request.filters)
      await Promise.race([subscriber.learnRedelivery(), delay(REDELIVERY_WAIT_MS, undefined, { ref: false })])
      return this.sessions.open(request, lastEventId)
    }, signal)
  }

  get requester(): Requester {
    return this.#requester.get()
  }

  /** As `Retained.read`. */
  async readRetained(filters: readonly string[], share: MemoryShare): Promise<RetainedMessages> {
    await this.#subscriber.get().checkTopics(filters)
    return this.#retained.get().read(filters, share)
  }

  /** Whether publishes and subscriptions would reach the broker. */
  get isReachable(): boolean {
    return this.connections.every(
      ({ role, state }) => state === 'connected' || state === 'reconnecting' || !NEEDED.includes(role),
    )
  }

  /** The connections there are, without those of sessions. */
  get connections(): { role: Role; state: ConnectionState }[] {
    const [subscriber, retained, requester] = [
      this.#subscriber.existing,
      this.#retained.existing,
      this.#requester.existing,
    ]
    return [
      ...this.publisher.states.map((state) => ({ role: 'publish' as const, state })),
      ...(subscriber?.states ?? []).map((state) => ({ role: 'subscribe' as const, state })),
      ...(retained === undefined ? [] : [{ role: 'retained' as const, state: retained.state }]),
      ...(requester === undefined ? [] : [{ role: 'request' as const, state: requester.state }]),
    ]
  }

  get filterCount(): number {
    return this.#subscriber.existing?.filterCount ?? 0
  }

  get requestsWaiting(): number {
    return this.#requester.existing?.waiting ?? 0
  }

  /** Resolves once each connection is made, or the first attempt at it has failed. */
  async attempted(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.attempted()))
  }

  /** Ends all streams, and those that wait for the broker. */
  async endStreams(): Promise<void> {
    this.#wait.close()
    this.streams.close()
    await this.sessions.close()
  }

  /**
   * Ends the streams and disconnects. Publishes in flight should have finished: the others stay unanswered until their
   * timeout.
   */
  async close(): Promise<void> {
    await this.endStreams()
    await Promise.all(this.#parts.map((part) => part.close()))
  }

  get #parts(): { attempted(): Promise<void>; close(): Promise<void> }[] {
    return [this.publisher, this.#subscriber.existing, this.#retained.existing, this.#requester.existing].filter(
      (part) => part !== undefined,
    )
  }
}

function connectionLost(cause: JoinFailed): CausewayError {
  return new CausewayError(
    'broker-unavailable',
    `The connection to the broker was lost ${cause.attempts} times while the stream was being opened`,
    { retryAfter: 1, cause },
  )
}

function warnOfUnmatched(logger: BaseLogger, metrics: Metrics): (topic: string) => void {
  let loggedMs = -Infinity
  return (topic) => {
    metrics.unmatched()
    if (performance.now() - loggedMs < UNMATCHED_LOG_MS) return
    loggedMs = performance.now()
    logger.warn(
      { topic },
      'a message matches no filter that is subscribed to and does not say for which one it was sent, so no stream ' +
        'gets it; brokers that deliver under another topic, as for $queue or $exclusive, need MQTT 5',
    )
  }
}
