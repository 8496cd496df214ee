import type { CausewayError } from '../errors.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts'
import { FIRST_REFUSAL, refusal } from './reason-codes.ts'

/**
 * Keeps a retained message on a topic that says whether this bridge runs: `online`, and `offline` from `close` or, if
 * the connection is lost, from the Last Will. It has a connection of its own, because some brokers close a connection
 * after refusing a publish on it, and would then publish the will.
 */
export class Presence {
  readonly #topic: string
  readonly #connection: Connection
  #isRefused = false

  /** @param onRefused called once if the broker refuses the message; it is then never sent again */
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
        connected: () => this.#publish('online'),
        acknowledged: ({ reasonCode = 0 }) => {
          if (reasonCode < FIRST_REFUSAL || this.#isRefused) return
          // Mosquitto closes the connection after a refusal. Sending again after each reconnect would never end.
          this.#isRefused = true
          onRefused(refusal(reasonCode, `The broker refused the status message for ${topic}`))
        },
      },
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  async close(): Promise<void> {
    this.#publish('offline')
    await this.#connection.close()
  }

  #publish(status: 'online' | 'offline'): void {
    if (this.#isRefused) return
    const message = { topic: this.#topic, payload: Buffer.from(status), qos: 1, retain: true } as const
    // Packet identifier 1 can be used each time: this connection never has another message in flight.
    this.#connection.network?.publish(message, 1, false)
  }
}
