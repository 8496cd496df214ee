import type { BaseLogger } from 'pino'
import type { CausewayError } from '../errors.ts'
import type { ConnectionState } from '../mqtt/connection.ts'

/** Is told of every state of every connection. */
export interface StateLog {
  state(name: string, state: ConnectionState, cause?: CausewayError): void
}

/** One warning when the broker goes and one line when it is back, however many connections notice. */
export class BrokerStateLog implements StateLog {
  readonly #logger: BaseLogger
  readonly #down = new Set<string>()

  constructor(logger: BaseLogger) {
    this.#logger = logger
  }

  state(name: string, state: ConnectionState, cause?: CausewayError): void {
    this.#logger.debug({ connection: name, state }, 'MQTT connection')
    if (state === 'disconnected') {
      if (this.#down.size === 0) {
        this.#logger.warn({ reason: cause?.message }, 'the broker cannot be reached; trying again until it can')
      }
      this.#down.add(name)
    } else if (state === 'connected' && this.#down.delete(name) && this.#down.size === 0) {
      this.#logger.info('the broker is back')
    }
  }
}

export function watch(
  name: string,
  log: StateLog,
  reconnected: () => void,
): (state: ConnectionState, cause?: CausewayError) => void {
  const notice = onReconnect(reconnected)
  return (state, cause) => {
    log.state(name, state, cause)
    notice(state)
  }
}

/** Called with each state of a connection; calls back each time it is connected again. */
export function onReconnect(reconnected: () => void): (state: ConnectionState) => void {
  let wasConnected = false
  return (state) => {
    if (state !== 'connected') return
    if (wasConnected) reconnected()
    wasConnected = true
  }
}
