import { connectAsync } from 'mqtt'
import { keyOfArrived } from './ledger.ts'
import type { Stage } from './stage.ts'

export const WITNESS_ID = 'chaos-witness'

/** What arrived at the broker, as a client says that has a session there and does not pass the proxy. */
export interface Witness {
  /** How often each message came, in the order of their first coming. */
  arrived: ReadonlyMap<string, number>
  /** Whether it is subscribed now. */
  isReady(): boolean
}

export async function startWitness(stage: Stage, url: string, protocolVersion: 4 | 5): Promise<Witness> {
  const client = await connectAsync(url, {
    clientId: WITNESS_ID,
    clean: false,
    protocolVersion,
    // The default of Mosquitto is 20 in flight, and no more than 1,000 behind them.
    ...(protocolVersion === 5 && { properties: { sessionExpiryInterval: 3600, receiveMaximum: 65_535 } }),
    reconnectPeriod: 20,
    resubscribe: false,
  })
  stage.onEnd(() => client.end(true))
  const arrived = new Map<string, number>()
  let isReady = false
  client.on('error', () => {})
  client.on('close', () => {
    isReady = false
  })
  client.on('message', (topic, payload) => {
    const key = keyOfArrived(topic, payload.toString())
    arrived.set(key, (arrived.get(key) ?? 0) + 1)
  })
  async function subscribe(): Promise<void> {
    await client.subscribeAsync('chaos/#', { qos: 2 })
    isReady = true
  }
  // Also where the broker kept the session: a subscription may always be made again.
  client.on('connect', () => void subscribe().catch(() => {}))
  await subscribe()
  return { arrived, isReady: () => isReady }
}
