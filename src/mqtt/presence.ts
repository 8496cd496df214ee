import type { CausewayError } from '../errors.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts'
import type { NetworkConnection } from './client/network-connection.ts'
import { FIRST_REFUSAL, refusal } from './reason-codes.ts'

/**
 * Says on a topic, retained, whether this bridge runs: `online`, and `offline` on `close` or as Last Will.
 * On a connection of its own, because brokers close publishing ones over a refused message, and publish the will.
 */
export class Presence {
  readonly #topic: string
  readonly #connection: Connection
  #network: NetworkConnection | undefined

  #refused = false

  /** @param onRefused called once if the broker does not allow the topic; it is not tried again */
  constructor(
    topic: string,
    connection: Omit<ConnectionOptions, 'handlers' | 'will'>,
    onRefused: (error: CausewayError) => void,
  ) {
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
        acknowledged: ({ reasonCode = 0 }) => {
          if (reasonCode < FIRST_REFUSAL || this.#refused) return
          // Mosquitto closes the connection over it: said again each time, it would never end.
          this.#refused = true
          onRefused(refusal(reasonCode, `The broker refused the status message for ${topic}`))
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
    if (this.#refused) return
    // One identifier will do: it is the only message this connection ever has in flight.
    this.#network?.publish({ topic: this.#topic, payload: Buffer.from(state), qos: 1, retain: true }, 1, false)
  }
}
