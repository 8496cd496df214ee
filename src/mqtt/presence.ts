import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { NetworkConnection } from './network-connection.ts'

/**
 * Says on a topic, retained, whether this bridge runs: `online`, and `offline` on `close` or as Last Will.
 * On a connection of its own, because brokers close publishing ones over a refused message, and publish the will.
 */
export class Presence {
  readonly #topic: string
  readonly #connection: Connection
  #network: NetworkConnection | undefined

  constructor(topic: string, connection: Omit<ConnectionOptions, 'handlers' | 'will'>) {
    this.#topic = topic
    this.#connection = new Connection({
      ...connection,
      will: { topic, payload: Buffer.from('offline'), qos: 1, retain: true },
      handlers: {
        connected: (network) => {
          this.#network = network
          this.#say('online')
        },
        lost: () => {
          this.#network = undefined
        },
      },
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  async close(): Promise<void> {
    this.#say('offline')
    await this.#connection.close()
  }

  #say(state: string): void {
    // One identifier will do: it is the only message this connection ever has in flight.
    this.#network?.publish({ topic: this.#topic, payload: Buffer.from(state), qos: 1, retain: true }, 1, false)
  }
}
