import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { MemoryAccount } from '../../memory/account.ts'
import type { Learnt } from '../connection/learnt.ts'
import { Clients } from './clients.ts'

export interface EmbeddedBroker {
  /** Where the bridge and other MQTT clients connect. */
  url: string
  /** Closes the connections of all clients. */
  close(): Promise<void>
}

/** What a bridge need not find out about it. */
export const EMBEDDED_LEARNT: Learnt = { order: 'kept', redelivery: 'marked' }

export interface EmbeddedBrokerOptions {
  /** 0 takes any free port. */
  port: number
  /** Largest packet that a client may send. */
  maxPacketBytes: number
  /** What it keeps for clients is taken from one share of this. */
  memory: MemoryAccount
}

/**
 * Starts a broker in this process, on loopback, without access control or persistence: MQTT 5, with clients of 3.1.1
 * beside.
 * @throws the error of the listener, for example EADDRINUSE
 */
export async function startEmbeddedBroker({
  port,
  maxPacketBytes,
  memory,
}: EmbeddedBrokerOptions): Promise<EmbeddedBroker> {
  const clients = new Clients(memory.shareOf('embedded broker'), maxPacketBytes)
  const server = createServer({ noDelay: true }, (socket) => clients.accept(socket))
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = once(server, 'close')
      server.close()
      clients.end()
      await closed
    },
  }
}
