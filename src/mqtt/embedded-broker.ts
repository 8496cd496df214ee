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
  const aedes = await Aedes.createBroker({
    // Aedes 1.2 sends retained messages at the publisher's QoS, and closes a kept session over the PUBREC of one.
    // Those at the start of a subscription are the ones without a broker's id.
    authorizeForward(client, packet) {
      const closesSession = packet.qos === 2 && packet.retain && packet.brokerId === null && !client.clean
      return closesSession ? Object.assign(packet, { qos: 1 }) : packet
    },
  })
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
