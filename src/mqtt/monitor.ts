import type { CausewayError } from '../errors.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts'

/** CONNACK codes for wrong or insufficient credentials, in MQTT 3.1.1 and 5. */
const CREDENTIALS_REFUSED = [0x04, 0x05, 0x86, 0x87]

/**
 * A connection that only shows whether the broker can be reached. A broker that refuses the bridge's credentials counts
 * as reachable: callers connect with their own.
 */
export class Monitor {
  readonly #connection: Connection
  #isRefused = false

  constructor({ onState = () => {}, ...connection }: Omit<ConnectionOptions, 'handlers' | 'keepSession'>) {
    this.#connection = new Connection({
      ...connection,
      keepSession: false,
      handlers: {
        connected: () => {
          this.#isRefused = false
          onState('connected')
        },
        unreachable: (error) => {
          this.#isRefused = CREDENTIALS_REFUSED.includes(reasonOf(error))
          onState(this.#isRefused ? 'connected' : 'disconnected', error)
        },
      },
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  get isReachable(): boolean {
    return this.#isRefused || this.state === 'connected' || this.state === 'reconnecting'
  }

  attempted(): Promise<void> {
    return this.#connection.attempted()
  }

  close(): Promise<void> {
    return this.#connection.close()
  }
}

function reasonOf({ details }: CausewayError): number {
  return details.mqtt?.reasonCode ?? 0
}
