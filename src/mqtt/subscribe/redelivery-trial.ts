import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Connection, type ConnectionOptions } from '../connection.ts'
import type { Learnt } from '../connection/learnt.ts'
import type { Receipt } from '../session/unacknowledged.ts'
import { withTimeout } from '../with-timeout.ts'

export type Redelivery = NonNullable<Learnt['redelivery']>

export interface RedeliveryTrialOptions {
  /** As for the connection that tries it; its client id begins as this one. */
  connection: Omit<ConnectionOptions, 'handlers' | 'role'>
  /** Below the marker topic, so that no reader gets what is published there. */
  topic: string
  /** Publishes to the topic on another connection. */
  publish(payload: Buffer): Promise<unknown>
  timeoutMs: number
}

/** After this the broker itself ends the trial's session (MQTT 5), should the bridge be killed meanwhile. */
const EXPIRY_S = 60
/** How long each message may take. NATS sends again only after half a minute: then nothing is known. */
const MESSAGE_MS = 1000
/** After this a session in which nothing has come, though the broker says that it has it, counts as empty. */
const NOTHING_MS = 3000
const RANDOM_BYTES = 6

/**
 * Finds out how the broker sends messages again that were not acknowledged, with a session of its own: one message
 * stays unacknowledged, a second one is published while the session is away, and then the session goes on.
 * @returns undefined where that does not show
 */
export async function tryRedelivery(options: RedeliveryTrialOptions): Promise<Redelivery | undefined> {
  const { connection, topic, publish, timeoutMs } = options
  const clientId = `${connection.clientId}-redelivery-${randomBytes(RANDOM_BYTES).toString('hex')}`
  const [before, behind] = [Buffer.from('before'), Buffer.from('behind')]
  let client: Connection | undefined
  /** What comes again behind a reconnect shows something else. */
  let lost = (_error: Error): void => {}

  function connect(received: (payload: Buffer, receipt: Receipt) => void, began?: (isPresent: boolean) => void): void {
    client = new Connection({
      ...connection,
      role: 'session',
      clientId,
      durable: { expiryS: EXPIRY_S, isBrokerThere: async () => false },
      handlers: {
        connected: (_network, _capabilities, _isCertain, isPresent) => began?.(isPresent),
        lost: () => lost(new Error('the connection was lost')),
        // A retained message, as far as one can be there, is none of these.
        message: (message, _identifiers, receipt) =>
          message.topic === topic && receipt !== undefined && received(message.payload, receipt),
      },
    })
  }

  try {
    const first = await withTimeout(
      new Promise<Receipt>((resolve, reject) => {
        lost = reject
        connect((_payload, receipt) => resolve(receipt))
        client!
          .ready()
          .then((network) =>
            withTimeout(network.subscribe(topic, 1, { identifier: undefined, retained: 'never' }), timeoutMs),
          )
          .then(() => publish(before))
          .catch(reject)
      }),
      timeoutMs + MESSAGE_MS,
    )
    await client!.close(false)
    await publish(behind)
    return await withTimeout(
      new Promise<Redelivery | undefined>((resolve, reject) => {
        lost = reject
        connect(
          (payload, { messageId, dup }) => {
            if (payload.equals(before)) resolve(dup ? 'marked' : 'unmarked')
            // Whose PUBACK it waits for now does not show any more, to it neither.
            else if (messageId === first.messageId) resolve('lost')
            else void delay(MESSAGE_MS, undefined, { ref: false }).then(resolve)
          },
          (isPresent) => {
            if (!isPresent) return resolve(undefined)
            void delay(NOTHING_MS, 'lost' as const, { ref: false }).then(resolve)
          },
        )
        client!.ready().catch(reject)
      }),
      timeoutMs + NOTHING_MS,
    )
  } catch {
    return undefined
  } finally {
    await client?.close(true)
  }
}
