import { randomBytes } from 'node:crypto'
import type { BaseLogger } from 'pino'
import { reportReconnects, reportStates, type StateLog } from './state-log.ts'
import type { Config } from '../config/config.ts'
import { brokerOptions } from '../config/broker-options.ts'
import { CausewayError } from '../errors.ts'
import { Lazy } from './lazy.ts'
import type { Metrics } from '../metrics.ts'
import type { ConnectionOptions, ConnectionState } from '../mqtt/connection.ts'
import type { Message } from '../mqtt/message.ts'
import { Publisher } from '../mqtt/publish/publisher.ts'
import { Requester } from '../mqtt/requester.ts'
import { Retained } from '../mqtt/retained.ts'
import { Session } from '../mqtt/session/session.ts'
import { sessionClientId } from '../mqtt/session/session-id.ts'
import { Subscriber } from '../mqtt/subscribe/subscriber.ts'
import type { Channel } from '../stream/channel.ts'
import { SharedStreams } from '../stream/shared/shared-streams.ts'
import type { Hold } from '../stream/shared/hold.ts'
import { Sessions } from '../stream/sessions/sessions.ts'

export interface LinkOptions {
  config: Config
  /** The broker's URL; the embedded one's where the configuration names that. */
  brokerUrl: string
  /** Prefix of the client ids; no other client of the broker may use it. */
  clientId: string
  /** A caller's own, in place of the bridge's. Such a link connects no more than it needs. */
  login?: { username: string; password: string }
  logger: BaseLogger
  log: StateLog
  metrics: Metrics
}

/** A broker that is lost again and again is away. */
const OPENING_TRIES = 3

type Role = 'publish' | 'subscribe' | 'retained' | 'request' | 'session'

/** One identity's connections to the broker, and the streams that live on them. */
export class Link {
  readonly publisher: Publisher
  readonly #subscriber: Lazy<Subscriber<Channel>>
  readonly #retained: Lazy<Retained>
  readonly #requester: Lazy<Requester>
  readonly streams: SharedStreams<Message>
  readonly sessions: Sessions<Message>

  constructor({ config, brokerUrl, clientId, login, logger, log: states, metrics }: LinkOptions) {
    const connection = (role: Role, name: string): Omit<ConnectionOptions, 'handlers'> => ({
      ...brokerOptions(config, brokerUrl, login),
      clientId: `${clientId}-${name}`,
      onState: reportStates(name, states, () => metrics.reconnected(role)),
    })
    this.publisher = new Publisher({
      connections: login === undefined ? config.publishConnections : 1,
      maxInFlight: config.publishMaxInFlight,
      maxInFlightBytes: config.publishMaxInFlightBytes,
      timeoutMs: config.publishTimeoutMs,
      connection: (index) => connection('publish', `publish-${index}`),
      observe({ qos, payload }, outcome, seconds, error) {
        metrics.published(qos, outcome, payload.length, seconds)
        if (outcome === 'rejected' && error !== undefined) metrics.rejected(error.kind.code)
      },
    })
    this.#subscriber = new Lazy(
      () =>
        new Subscriber<Channel>({
          connection: (index) => connection('subscribe', `subscribe-${index}`),
          connectionsMax: config.subscribeConnectionsMax,
          timeoutMs: config.publishTimeoutMs,
          sharedOver311: config.mqttSharedSubscriptions === 'true',
          events: {
            message: (message, channels) => this.streams.deliver(message, channels),
            shared: (message, channels) => this.streams.deliverToOne(message, channels),
            received: ({ qos, payload }) => metrics.received(qos, payload.length),
            connected: (connected, channels) => this.streams.status(connected, channels),
            gap: (sessionLost, channels) =>
              this.streams.gap(sessionLost ? 'broker-session-lost' : 'broker-connection-lost', channels),
            refused: (error, channels) => {
              logger.warn({ problem: error.kind.code }, `a subscription was not granted again: ${error.message}`)
              this.streams.refuse(error.message, channels)
            },
          },
        }),
    )
    this.#retained = new Lazy(
      () =>
        new Retained({
          connection: connection('retained', 'retained'),
          timeoutMs: config.publishTimeoutMs,
          limits: { messages: config.retainedMax, bytes: config.retainedMaxBytes },
        }),
    )
    this.#requester = new Lazy(
      () =>
        new Requester({
          connection: connection('request', 'request'),
          replyTopic: `${config.replyTopic}/${randomBytes(12).toString('hex')}`,
          requestsMax: config.requestsMax,
          timeoutMs: config.publishTimeoutMs,
          publish: (message) => this.publisher.publish(message),
          observe: metrics.replied,
        }),
    )
    if (login === undefined) for (const part of [this.#subscriber, this.#retained, this.#requester]) part.get()
    const log = { bytes: config.streamLogBytes, messages: config.streamLogMessages }
    this.streams = new SharedStreams<Message>({
      source: {
        add: (channel, filters, qos) => this.#subscriber.get().add(channel, filters, qos),
        remove: (channel, filters) => this.#subscriber.get().remove(channel, filters),
      },
      epoch: randomBytes(6).toString('hex'),
      limits: log,
      lingerMs: config.streamLingerMs,
      heartbeatMs: config.streamHeartbeatMs,
      stallMs: config.streamStallMs,
      counters: metrics.streams,
    })
    this.sessions = new Sessions<Message>({
      epoch: randomBytes(6).toString('hex'),
      log,
      window: { messages: config.sessionMaxUnacked, bytes: config.streamLogBytes },
      lingerMs: config.streamLingerMs,
      heartbeatMs: config.streamHeartbeatMs,
      stallMs: config.streamStallMs,
      counters: metrics.streams,
      connect: ({ id, filters, retained }, events) =>
        new Session({
          connection: {
            ...brokerOptions(config, brokerUrl, login),
            keepSession: true,
            clientId: sessionClientId(id),
            onState: reportReconnects(() => metrics.reconnected('session')),
          },
          durable: {
            expiryS: config.sessionExpiryS,
            receiveMaximum: config.sessionMaxUnacked,
            isBrokerThere: () => this.#subscriber.get().answers(),
          },
          filters,
          retained,
          timeoutMs: config.publishTimeoutMs,
          sharedOver311: config.mqttSharedSubscriptions === 'true',
          events: {
            ...events,
            message(message) {
              metrics.received(message.qos, message.payload.length)
              if (message.redelivered) metrics.redelivered()
              events.message(message)
            },
          },
        }),
    })
  }

  /** Whether publishes and subscriptions would find the broker. */
  get isReachable(): boolean {
    return this.connections.every(({ state }) => state === 'connected' || state === 'reconnecting')
  }

  get connections(): { role: Role; state: ConnectionState }[] {
    return [
      ...this.publisher.states.map((state) => ({ role: 'publish' as const, state })),
      ...(this.#subscriber.existing?.states ?? []).map((state) => ({ role: 'subscribe' as const, state })),
      ...listOf(this.#retained).map(({ state }) => ({ role: 'retained' as const, state })),
      ...listOf(this.#requester).map(({ state }) => ({ role: 'request' as const, state })),
    ]
  }

  get #parts(): (Publisher | Subscriber<Channel> | Retained | Requester)[] {
    return [this.publisher, ...listOf(this.#subscriber), ...listOf(this.#retained), ...listOf(this.#requester)]
  }

  get filterCount(): number {
    return this.#subscriber.existing?.filterCount ?? 0
  }

  get requester(): Requester {
    return this.#requester.get()
  }

  get retained(): Retained {
    return this.#retained.get()
  }

  get requestsWaiting(): number {
    return this.#requester.existing?.waiting ?? 0
  }

  /**
   * The retained messages a stream begins with. What is retained while the stream is being opened also comes live, so
   * it waits for that and leaves out what the hold has seen. Where that may have been lost, all starts again.
   */
  async retainedFor(filters: readonly string[], hold: Hold<Message>): Promise<Message[]> {
    for (let tries = 0; tries < OPENING_TRIES; tries += 1) {
      const retained = await this.#retained.get().read(filters)
      if (retained.length === 0) return retained
      await this.#subscriber.get().settled(filters)
      if (!hold.interrupted) return unseen(retained, hold.seen)
      hold.start()
    }
    throw new CausewayError(
      'broker-unavailable',
      `The connection to the broker was lost ${OPENING_TRIES} times while the stream was opened`,
      { retryAfter: 1 },
    )
  }

  /** Resolves once every connection is made, or has failed to be for the first time. */
  async attempted(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.attempted()))
  }

  /** Ends the streams and disconnects. Let publishes in flight finish first: they stay unanswered until their timeout. */
  async close(): Promise<void> {
    this.streams.close()
    await this.sessions.close()
    await Promise.all(this.#parts.map((part) => part.close()))
  }
}

/** Those of which no live copy came. */
function unseen(retained: readonly Message[], live: readonly Message[]): Message[] {
  const seen = new Map<string, Buffer[]>()
  for (const { topic, payload } of live) {
    const payloads = seen.get(topic)
    if (payloads === undefined) seen.set(topic, [payload])
    else payloads.push(payload)
  }
  return retained.filter(({ topic, payload }) => !seen.get(topic)?.some((copy) => copy.equals(payload)))
}

function listOf<Value>({ existing }: Lazy<Value>): Value[] {
  return existing === undefined ? [] : [existing]
}
