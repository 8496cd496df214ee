import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Aedes } from 'aedes'

export interface EmbeddedBroker {
  /** Where MQTT clients, the bridge among them, connect. */
  url: string
  /** Cuts every client off. */
  close(): Promise<void>
}

/**
 * Starts an MQTT 3.1.1 broker in this process, on loopback, without access control or persistence.
 * @param port 0 for any free one
 * @throws the listener's error, EADDRINUSE among them
 */
export async function startEmbeddedBroker(port: number): Promise<EmbeddedBroker> {
  const aedes = await Aedes.createBroker()
  const server = createServer({ noDelay: true }, aedes.handle)
  try {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  } catch (error) {
    await new Promise<void>((resolve) => aedes.close(resolve))
    throw error
  }
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = once(server, 'close')
      server.close()
      await new Promise<void>((resolve) => aedes.close(resolve))
      await closed
    },
  }
}
