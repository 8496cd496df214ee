import type { CausewayError } from '../errors.ts'
import type { ConnectionReport } from './connection/broker.ts'
import { Connection, type ConnectionOptions, type ConnectionState } from './connection.ts'

/** CONNACK codes for wrong or insufficient credentials, in MQTT 3.1.1 and 5. */
const CREDENTIALS_REFUSED = [0x04, 0x05, 0x86, 0x87]

/** Whether the broker refused a connection because of its credentials. */
export function isCredentialsRefused(error: CausewayError | undefined): boolean {
  return CREDENTIALS_REFUSED.includes(error?.details.mqtt?.reasonCode ?? 0)
}

/**
 * A connection that only shows whether the broker can be reached. A broker that refuses the bridge's credentials counts
 * as reachable: callers connect with their own.
 */
export class Monitor {
  readonly #connection: Connection
  #isRefused = false

  constructor({ onState = () => {}, ...connection }: Omit<ConnectionOptions, 'handlers' | 'keepSession' | 'role'>) {
    this.#connection = new Connection({
      ...connection,
      role: 'monitor',
      keepSession: false,
      handlers: {},
      onState: (state, change) => {
        const wasRefused = this.#isRefused
        this.#isRefused = isCredentialsRefused(change.cause)
        if (!this.#isRefused) onState(state, change)
        // Each attempt is refused again, and it is the first one that says that the broker is there.
        else if (!wasRefused) onState('connected', change)
      },
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  get report(): ConnectionReport {
    return this.#connection.report
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
