import { randomBytes } from 'node:crypto'
import { Connection, type ConnectionOptions } from './connection.ts'
import { withTimeout } from './with-timeout.ts'

/** How long a broker may take to publish a will, and then to hand on the retained message. */
const WILL_MS = 2000
const RETAINED_MS = 1000
const RANDOM_BYTES = 6
/** MQTT.js gives SUBSCRIBE the lowest identifier that is free. */
const CLEARING_PACKET_ID = 65_000

export interface WillTrialOptions {
  /** Prefix of the client ids, too. */
  connection: Pick<ConnectionOptions, 'broker' | 'clientId'>
  /** The topic below which the markers of all bridges are. */
  markerTopic: string
  timeoutMs: number
  /** Ends the trial early. */
  signal?: AbortSignal
}

/** As `retainsWills`, once for each broker: it is in `Learnt.retainedWills` then, where it shows. */
export function learnRetainedWills(options: WillTrialOptions): Promise<void> {
  return options.connection.broker.learn('retainedWills', () => retainsWills(options))
}

/**
 * Finds out whether the broker keeps a will that is to be retained: a connection with such a will is cut, and then the
 * topic is read. Moquette publishes the will, and keeps the retained message that was there before.
 * @returns undefined where that does not show, as the will does not come
 */
export async function retainsWills(options: WillTrialOptions): Promise<boolean | undefined> {
  const { connection, markerTopic, timeoutMs, signal } = options
  const topic = `${markerTopic}/will-${randomBytes(RANDOM_BYTES).toString('hex')}`
  const { clientId } = connection
  const common = { ...connection, role: 'presence', keepSession: false } as const
  let came = (_isRetained: boolean): void => {}
  const reader = new Connection({
    ...common,
    clientId: `${clientId}-will-reader`,
    handlers: { message: (message) => message.topic === topic && message.payload.length > 0 && came(message.retain) },
  })
  const dying: Connection = new Connection({
    ...common,
    clientId: `${clientId}-will`,
    will: { topic, payload: Buffer.from('gone'), qos: 1, retain: true },
    handlers: { lost: () => void dying.close() },
  })

  function next(isRetained: boolean, ms: number): Promise<boolean> {
    const arrival = new Promise<boolean>((resolve) => {
      came = (retain) => retain === isRetained && resolve(true)
    })
    return withTimeout(arrival, ms).catch(() => false)
  }

  async function run(): Promise<boolean | undefined> {
    const network = await reader.ready()
    await withTimeout(network.subscribe(topic, 1, { identifier: undefined, retained: 'never' }), timeoutMs)
    const cut = await dying.ready()
    const published = next(false, WILL_MS)
    cut.destroy(new Error('the will is tried out'))
    if (!(await published)) return undefined
    const read = next(true, RETAINED_MS)
    await withTimeout(network.subscribe(topic, 1, { identifier: undefined, retained: 'always' }), timeoutMs)
    const isRetained = await read
    network.publish({ topic, payload: Buffer.alloc(0), qos: 1, retain: true }, CLEARING_PACKET_ID, false)
    return isRetained
  }

  const aborted = new Promise<undefined>((resolve) => signal?.addEventListener('abort', () => resolve(undefined)))
  try {
    return await Promise.race([run(), aborted])
  } catch {
    return undefined
  } finally {
    await Promise.all([dying.close(), reader.close()])
  }
}
