import { setTimeout as delay } from 'node:timers/promises'
import type { Mosquitto } from '../broker.ts'
import { connectOnce } from '../mqtt-client.ts'
import type { Proxy } from '../proxy.ts'
import type { Random } from './random.ts'

/** Ways to break the link between bridge and broker; each resolves once it is whole again. */
export type Faults = Record<string, () => Promise<void>>

const LONGEST_MS = 300

/** @param broker one with persistence */
export function linkFaults(proxy: Proxy, random: Random, broker: Mosquitto): Faults {
  const aWhile = () => delay(random.integer(0, LONGEST_MS))
  async function stall(): Promise<void> {
    proxy.stall(random.pick(['up', 'down']))
    await aWhile()
  }
  return {
    cut: async () => proxy.cut(),
    async refuse() {
      await proxy.refuse()
      await aWhile()
      await proxy.accept()
    },
    async stall() {
      await stall()
      proxy.flow()
    },
    // What was on its way is gone, in one direction only.
    async stallAndCut() {
      await stall()
      proxy.cut()
      proxy.flow()
    },
    // Nothing listens meanwhile, as without a proxy.
    async restart() {
      await proxy.refuse()
      await broker.stop()
      await aWhile()
      await broker.start()
      await proxy.accept()
    },
    // Something accepts connections meanwhile and gets no further, as container runtimes and load balancers do.
    async restartBehind() {
      await broker.stop()
      await aWhile()
      await broker.start()
    },
  }
}

/** Another client with the bridge's own id and Clean Start: the broker cuts the bridge off and forgets its session. */
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
