import type { BaseLogger } from 'pino'
import type { CausewayError } from '../errors.ts'
import type { ConnectionState } from '../mqtt/connection.ts'

export interface StateLog {
  /** Called each time a connection changes its state. */
  changed(connection: string, state: ConnectionState, cause?: CausewayError): void
}

/** Logs one warning when the broker becomes unreachable and one line when it is back, for all connections together. */
export class BrokerStateLog implements StateLog {
  readonly #logger: BaseLogger
  readonly #disconnected = new Set<string>()

  constructor(logger: BaseLogger) {
    this.#logger = logger
  }

  changed(connection: string, state: ConnectionState, cause?: CausewayError): void {
    this.#logger.debug({ connection, state }, 'MQTT connection')
    if (state === 'disconnected') {
      if (this.#disconnected.size === 0) {
        this.#logger.warn({ reason: cause?.message }, 'the broker cannot be reached; trying again until it can')
      }
      this.#disconnected.add(connection)
    } else if (state === 'connected' && this.#disconnected.delete(connection) && this.#disconnected.size === 0) {
      this.#logger.info('the broker is back')
    }
  }
}

/** An `onState` option for one connection: reports each state to the log, and each reconnect. */
export function reportStates(
  connection: string,
  log: StateLog,
  reconnected: () => void,
): (state: ConnectionState, cause?: CausewayError) => void {
  const reportReconnect = reportReconnects(reconnected)
  return (state, cause) => {
    log.changed(connection, state, cause)
    reportReconnect(state)
  }
}

/** An `onState` option for one connection: reports each reconnect, which the first connect is not. */
export function reportReconnects(reconnected: () => void): (state: ConnectionState) => void {
  let wasConnected = false
  return (state) => {
    if (state !== 'connected') return
    if (wasConnected) reconnected()
    wasConnected = true
  }
}
