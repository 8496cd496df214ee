import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Aedes } from 'aedes'

export interface EmbeddedBroker {
  /** Where the bridge and other MQTT clients connect. */
  url: string
  /** Closes the connections of all clients. */
  close(): Promise<void>
}

/**
 * Starts an MQTT 3.1.1 broker in this process, on loopback, without access control or persistence.
 * @param port 0 takes any free port
 * @throws the error of the listener, for example EADDRINUSE
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
