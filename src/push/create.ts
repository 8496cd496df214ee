import { createHash } from 'node:crypto'
import type { BaseLogger } from 'pino'
import { Envelopes } from '../cluster/envelope.ts'
import type { Config } from '../config/config.ts'
import { Lazy } from '../lazy.ts'
import type { LimitedLog } from '../links/limited-log.ts'
import { reportSession, reportStates, type StateLog } from '../links/state-log.ts'
import type { MemoryAccount } from '../memory/account.ts'
import type { Metrics } from '../metrics.ts'
import type { Broker } from '../mqtt/connection/broker.ts'
import type { ConnectionState } from '../mqtt/connection.ts'
import { Publisher } from '../mqtt/publish/publisher.ts'
import { sessionClientId, sessionId } from '../mqtt/session/session-id.ts'
import { Session } from '../mqtt/session/session.ts'
import { isBelow } from '../mqtt/topic.ts'
import { DeadLetters } from './dead-letters.ts'
import type { PushInfo } from './info.ts'
import { Push, type PushLog, type Seat } from './push.ts'
import { readPushFiles } from './push-files.ts'
import { type PushFiles, Pushes } from './pushes.ts'
import { Seats } from './seats.ts'

export interface CreatePushesOptions {
  config: Config
  readFile(path: string): string
  /** What the push file contains. */
  files: PushFiles
  broker: Broker
  /** Prefix of the client ids. */
  clientId: string
  logger: BaseLogger
  log: StateLog
  limitedLog: LimitedLog
  memory: MemoryAccount
  metrics: Metrics
}

export interface RunningPushes {
  readonly list: PushInfo[]
  /** For the metrics. */
  readonly gauges: { name: string; waiting: number; isActive: boolean }[]
  readonly connections: { role: string; state: ConnectionState }[]
  /** Reads the files again. Keeps what was read before where they cannot be used. */
  reload(): void
  /** Ends all. Open requests have until the signal is aborted. */
  close(signal: AbortSignal): Promise<void>
}

/** Owner of the sessions: no caller's identity has this name. */
const OWNER = 'push'
const UNHEARD =
  'bridges cannot agree on which of them delivers to push endpoints; allow them to publish and subscribe to this ' +
  'topic, and restart them. Until then let only one bridge have the push file'
/** Digits that name a session without telling its client id, with which anybody could take it. */
const SEAT_DIGITS = 24

/** Starts the push targets, with the bridge's own account at the broker. */
export function createPushes(options: CreatePushesOptions): RunningPushes {
  const { config, readFile, files, broker, clientId, logger, log, limitedLog, memory, metrics } = options
  const common = { broker }
  const timeoutMs = config.publishTimeoutMs
  const topic = `${config.clusterTopic}/push`
  const envelopes = new Envelopes(config.sessionSecret)
  // No other bridge outlives an embedded broker, so there is nobody to ask.
  const isOnlyBridge = config.mqttUrl === 'embedded:'
  const seats = isOnlyBridge
    ? undefined
    : new Seats({
        connection: {
          ...common,
          clientId: `${clientId}-push`,
          onState: reportStates('push', log, () => metrics.reconnected('push')),
        },
        topic,
        envelopes,
        onUnheard: (reason) => logger.error({ topic, reason }, UNHEARD),
      })
  const publisher = new Lazy(
    () =>
      new Publisher({
        connections: 1,
        maxInFlight: config.publishMaxInFlight,
        maxInFlightBytes: config.publishMaxInFlightBytes,
        waitMaxMs: timeoutMs,
        timeoutMs,
        connection: () => ({
          ...common,
          role: 'publish',
          clientId: `${clientId}-dead-letters`,
          onState: reportStates('dead-letters', log, () => metrics.reconnected('publish')),
        }),
        observe: () => {},
      }),
  )
  const deadLetters = new DeadLetters({
    publish: async (message, share) => publisher.get().publish(message, share),
    failing: (name, reason) =>
      limitedLog.warn(
        `dead letter ${name}`,
        { push: name, reason },
        'the broker does not take a dead letter; trying again until it does',
      ),
  })
  const ids = {
    prefix: config.sessionClientId ?? `${config.mqttClientId ?? 'causeway'}-session-`,
    secret: config.sessionSecret,
  }
  const isOfBridges = (name: string) => isBelow(name, config.markerTopic!) || isBelow(name, config.clusterTopic!)

  const pushes = new Pushes({
    endMs: config.shutdownMs,
    start(target, ca, formerTopics) {
      const outcome = metrics.pushStarted(target.name)
      const sessionClient = sessionClientId(sessionId({ owner: OWNER, name: target.name, filters: [] }), ids)
      const seat = createHash('sha256').update(sessionClient).digest('hex').slice(0, SEAT_DIGITS)
      return new Push({
        target,
        ca,
        formerTopics,
        source:
          config.mqttClientId === undefined ? '/causeway' : `/causeway/${encodeURIComponent(config.mqttClientId)}`,
        share: memory.shareOf(`push:${target.name}`),
        window: { messages: config.sessionMaxUnacked, bytes: config.streamLogBytes },
        connect: ({ topics, retained, deadLetterTopic }, events) =>
          new Session({
            connection: {
              ...common,
              role: 'session',
              clientId: sessionClient,
              onState: reportSession(sessionClient, limitedLog, () => metrics.reconnected('session')),
            },
            durable: { expiryS: config.sessionExpiryS, isBrokerThere: async () => seats?.answers() ?? true },
            filters: topics,
            retained,
            timeoutMs,
            sharedOver311: config.mqttSharedSubscriptions === 'true',
            brokerQueueMax: isOnlyBridge ? 0 : config.brokerQueueMax,
            // A filter such as # would bring them.
            ignores: (name) => name === deadLetterTopic || isOfBridges(name),
            events,
          }),
        takeSeat: (handlers) => seats?.take(seat, handlers) ?? onlySeat(handlers),
        deadLetter: (letter, signal) => deadLetters.publish(letter, signal),
        log: limitedFor(target.name, limitedLog),
        counters: {
          outcome,
          received: metrics.received,
          redelivered: metrics.redelivered,
          queueOverflowed: () => metrics.streams.gap('broker-queue', 0),
          unmatched: metrics.unmatched,
        },
      })
    },
  })
  const replace = (read: PushFiles) =>
    pushes
      .replace(read)
      .catch((error: unknown) => logger.error({ err: error }, 'push targets were not replaced: an unexpected error'))
  void replace(files)

  return {
    get list() {
      return pushes.list
    },
    get gauges() {
      return pushes.all.map(({ target: { name }, waiting, isActive }) => ({ name, waiting, isActive }))
    },
    get connections() {
      return [
        ...(seats === undefined ? [] : [{ role: 'push', state: seats.state }]),
        ...pushes.all.flatMap(({ connectionState: state }) =>
          state === undefined ? [] : [{ role: 'session', state }],
        ),
        ...(publisher.existing?.states ?? []).map((state) => ({ role: 'publish', state })),
      ]
    },
    reload() {
      try {
        const read = readPushFiles(config, readFile)!
        void replace(read)
        logger.info(`${read.targets.length} push targets read from ${config.pushFile}`)
      } catch (error) {
        logger.error(`push targets not reloaded, the current ones stay in use: ${(error as Error).message}`)
      }
    },
    async close(signal) {
      await pushes.close(signal)
      await Promise.all([seats?.close(), publisher.existing?.close()])
    },
  }
}

/** The seat of a bridge that shares it with nobody. */
function onlySeat({ granted }: { granted(): void }): Seat {
  return { ask: () => queueMicrotask(granted), evicted() {}, leave() {}, isShared: false }
}

/** An endpoint that fails now and then must not fill the log: each text once a second, for each target. */
function limitedFor(name: string, log: LimitedLog): PushLog {
  return {
    info: (fields, text) => log.info(`push ${name} ${text}`, fields, text),
    warn: (fields, text) => log.warn(`push ${name} ${text}`, fields, text),
    error: (fields, text) => log.error(`push ${name} ${text}`, fields, text),
  }
}
