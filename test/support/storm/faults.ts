import { setTimeout as delay } from 'node:timers/promises'
import type { Mosquitto } from '../broker.ts'
import { connectOnce } from '../mqtt-client.ts'
import type { Proxy } from '../proxy.ts'
import type { Random } from './random.ts'

/**
 * Ways to interrupt the connections between bridge and broker. Each resolves when new connections can be made again.
 */
export type Faults = Record<string, () => Promise<void>>

const LONGEST_MS = 300

/** @param broker one with persistence */
export function linkFaults(proxy: Proxy, random: Random, broker: Mosquitto): Faults {
  const pause = () => delay(random.integer(0, LONGEST_MS))
  async function stall(): Promise<void> {
    proxy.stall(random.pick(['up', 'down']))
    await pause()
  }
  return {
    cut: async () => proxy.cut(),
    async refuse() {
      await proxy.refuse()
      await pause()
      await proxy.accept()
    },
    async stall() {
      await stall()
      proxy.flow()
    },
    // Loses what was under way, in one direction only.
    async stallAndCut() {
      await stall()
      proxy.cut()
      proxy.flow()
    },
    // Meanwhile nothing listens on the bridge's port, as without a proxy.
    async restart() {
      await proxy.refuse()
      await broker.stop()
      await pause()
      await broker.start()
      await proxy.accept()
    },
    // Meanwhile the proxy accepts connections and cannot pass them on, as container runtimes and load balancers do.
    async restartBehindProxy() {
      await broker.stop()
      await pause()
      await broker.start()
    },
  }
}

/**
 * A client connects with the client id of the bridge's first connection for subscriptions, and with Clean Start. The
 * broker disconnects the bridge and deletes its session.
 */
export function stolenSession({
  clientId,
  protocolVersion,
  brokerUrl,
}: {
  clientId: string
  protocolVersion: 5 | 4
  brokerUrl: string
}): Faults {
  return {
    async steal() {
      const thief = await connectOnce(brokerUrl, { clientId: `${clientId}-subscribe-0`, clean: true, protocolVersion })
      await thief.endAsync(true)
    },
  }
}
