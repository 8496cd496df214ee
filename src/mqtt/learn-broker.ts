import type { Broker } from './connection/broker.ts'
import { Markers } from './markers.ts'
import { Retained } from './retained.ts'
import { Session } from './session/session.ts'
import { learnRetainedWills } from './will-trial.ts'
import { Subscriber } from './subscribe/subscriber.ts'

export interface LearnBrokerOptions {
  /** What is found out is in its `learnt` then. */
  broker: Broker
  /** Prefix of the client ids. */
  clientId: string
  /** The topic below which the markers of all bridges are. */
  markerTopic: string
  /** How long to wait for each answer. */
  timeoutMs: number
  sharedOver311: boolean
}

/** After this the broker itself ends the session (MQTT 5), should the bridge be killed meanwhile. */
const SESSION_EXPIRY_S = 60

/** Finds out at once all that a bridge otherwise finds out as it needs it. What does not show stays undefined. */
export async function learnBroker(options: LearnBrokerOptions): Promise<void> {
  const { broker, clientId, markerTopic, timeoutMs, sharedOver311 } = options
  const markers = new Markers(markerTopic)
  const ignore = (): void => {}
  const session = new Session({
    connection: { broker, role: 'session', clientId: `${clientId}-session` },
    durable: { expiryS: SESSION_EXPIRY_S, isBrokerThere: async () => true },
    filters: [`${markerTopic}/session`],
    retained: false,
    timeoutMs,
    sharedOver311,
    brokerQueueMax: 0,
    events: {
      message: ignore,
      lost: ignore,
      forgotten: ignore,
      restored: ignore,
      queueOverflowed: ignore,
      refused: ignore,
      takenOver: ignore,
    },
  })
  const retained = new Retained({
    connection: { broker, role: 'retained', clientId: `${clientId}-retained` },
    timeoutMs,
    limits: { messages: 1, bytes: 1 },
    markers,
  })
  const subscriber = new Subscriber<never>({
    connection: (index) => ({ broker, role: 'subscribe', clientId: `${clientId}-subscribe-${index}` }),
    connectionsMax: 1,
    timeoutMs,
    sharedOver311,
    brokerQueueMax: 0,
    mayShareClientId: false,
    markers,
    ignores: () => false,
    onUnmatched: ignore,
    events: {
      received: ignore,
      message: ignore,
      shared: ignore,
      gap: ignore,
      connected: ignore,
      refused: ignore,
    },
  })
  try {
    await retained.learnt()
    await subscriber.learn()
    await learnRetainedWills({ connection: { broker, clientId }, markerTopic, timeoutMs })
    await session.open()
    await session.end()
  } catch {
    // The connection was lost, which its report says, or the broker does not end a session, which is in `learnt` now.
  } finally {
    await Promise.all([retained.close(), subscriber.close(), session.close(true)])
  }
}
